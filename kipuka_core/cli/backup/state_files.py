"""Which files belong in a backup besides the database, and copying them while others may write."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kipuka_core.cli.backup.bundle import BESIDE, STATE
from kipuka_core.config import Config
from kipuka_core.errors import KipukaError

REPLACED = "before-restore-"
"""How the directories begin into which a restore puts what it replaces."""
_NEVER = frozenset({"control.sock", "control.lock", "run", "archive", "hsm"})
"""Of this host and moment (the socket, its lock, figures, refused PINs), or already apart (archived records)."""
_TRIES = 5
_LONGEST_PATH = 4096


def state_files(state_dir: Path, database: Path) -> Iterator[tuple[str, Path]]:
    """Files by their name below the state directory; no database, no audit trail (only ever appended to), no lock."""
    for path in sorted(state_dir.rglob("*")):
        name = path.relative_to(state_dir)
        first = name.parts[0]
        if first in _NEVER or first.startswith(REPLACED) or not path.is_file():
            continue
        if path.name.startswith(database.name) or ".jsonl" in path.name or path.name.endswith((".lock", "-lock")):
            continue
        yield name.as_posix(), path


def files_beside(config: Config) -> Iterator[tuple[str, Path]]:
    """Files in the directory of kipuka.toml that it names, in whatever table: certificates, keys, anchors, users."""
    base_dir, state_dir = config.base_dir, config.server.state_dir
    for text in sorted(set(_texts(tomllib.loads(config.path.read_text(encoding="utf-8"))))):
        path = base_dir / text
        is_beside = path.is_relative_to(base_dir) and not path.is_relative_to(state_dir) and ".." not in path.parts
        if is_beside and _is_file(path):
            yield path.relative_to(base_dir).as_posix(), path


def stage(config: Config, database: Path, target: Path) -> list[str]:
    """Copy them all as they were at one moment; their names. Raises KipukaError where they change all the time."""

    def all_files() -> list[tuple[str, Path]]:
        state = state_files(config.server.state_dir, database)
        return [
            *((f"{STATE}/{name}", path) for name, path in state),
            *((f"{BESIDE}/{name}", path) for name, path in files_beside(config)),
        ]

    for _ in range(_TRIES):
        try:
            before = _stamps(all_files())
            for directory in (STATE, BESIDE):
                shutil.rmtree(target / directory, ignore_errors=True)
            for name, path in all_files():
                copy = target / name
                copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.copy2(path, copy)
            if _stamps(all_files()) == before:
                return sorted(before)
        except FileNotFoundError:  # one went away meanwhile
            continue
    raise KipukaError("files change while they are copied; repeat this in a moment")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a TOML document that may be a path."""
    if isinstance(value, str) and value and "\0" not in value and len(value) < _LONGEST_PATH:
        yield value
    elif isinstance(value, dict):
        for below in value.values():
            yield from _texts(below)
    elif isinstance(value, list):
        for below in value:
            yield from _texts(below)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text that is too long to be a name
        return False


def _stamps(files: list[tuple[str, Path]]) -> dict[str, tuple[int, int, int]]:
    found = {}
    for name, path in files:
        status = path.stat()
        found[name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
