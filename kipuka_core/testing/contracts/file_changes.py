"""Which files this process changes; what other processes and the database do beside it is not heard of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"})
_listening: list[list[str]] = []
_is_hooked = False


@contextmanager
def changes_heard_of(*directories: Path) -> Iterator[list[str]]:
    """The files and directories below ``directories`` that this process has made, written, renamed or removed.

    A file that is opened for writing and is afterwards what it was does not count.
    """
    global _is_hooked  # noqa: PLW0603  # an audit hook cannot be removed again
    if not _is_hooked:
        sys.addaudithook(_hear)
        _is_hooked = True
    before = _contents(directories)
    heard: list[str] = []
    found: list[str] = []
    _listening.append(heard)
    try:
        yield found
    finally:
        _listening.remove(heard)
        changed = {path for path, _ in _contents(directories) ^ before}
        found += sorted(changed.intersection(heard))


def _contents(directories: Sequence[Path]) -> set[tuple[str, bytes | None]]:
    paths = {path for directory in directories for path in directory.resolve().rglob("*")}
    return {(str(path), path.read_bytes() if path.is_file() else None) for path in paths}


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listening:
        return
    if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
        for path in arguments[:2]:
            if isinstance(path, str | bytes | os.PathLike):
                for heard in tuple(_listening):
                    heard.append(os.path.realpath(os.fsdecode(path)))
