"""Which files this process changes; what other processes and the database do beside it is not heard of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"})
_listening: list[list[str]] = []
_is_hooked = False


@contextmanager
def changes_heard_of(*directories: Path) -> Iterator[list[str]]:
    """The files and directories below ``directories`` that are opened for writing, made, renamed or removed."""
    global _is_hooked  # noqa: PLW0603  # an audit hook cannot be removed again
    if not _is_hooked:
        sys.addaudithook(_hear)
        _is_hooked = True
    heard: list[str] = []
    found: list[str] = []
    _listening.append(heard)
    try:
        yield found
    finally:
        _listening.remove(heard)
        above = [str(directory.resolve()) for directory in directories]
        found += sorted({path for path in heard if any(path.startswith(f"{each}/") for each in above)})


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listening:
        return
    if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
        for path in arguments[:2]:
            if isinstance(path, str | bytes | os.PathLike):
                for heard in tuple(_listening):
                    heard.append(os.path.realpath(os.fsdecode(path)))
