"""Files that commands make: never over something that is there, never half-written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kipuka_core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be made: ``mode`` is its permissions, less the umask's."""

    path: Path
    content: bytes
    mode: int


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet, whole or not at all, with its mode from the first moment.

    Raises ConfigurationError when it is there, or cannot be written.
    """
    write_all_new([NewFile(path, content, mode)])


def write_all_new(files: Sequence[NewFile]) -> None:
    """Write several files, all of them or none. Raises ConfigurationError as :func:`write_new` does."""
    made: list[Path] = []
    try:
        for file in files:
            # Holds the name, so that a file of somebody else who is at it now is not replaced below.
            _create(file.path, b"", file.mode)
            made.append(file.path)
        for file in files:
            with _temporary(file) as temporary:
                temporary.replace(file.path)
    except BaseException as error:
        for path in made:
            with suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            raise ConfigurationError(str(file.path), f"cannot be written: {error.strerror}") from None
        raise


def refuse_existing(*paths: Path) -> None:
    """Raise ConfigurationError when one of these is there: before something takes long, or is printed."""
    for path in paths:
        if os.path.lexists(path):
            raise _exists(path)


def make_private_directory(directory: Path) -> None:
    """Make a directory that only its owner can look into; what is missing above it gets the usual mode.

    Raises ConfigurationError.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(str(directory), f"cannot be made: {error.strerror}") from None


@contextmanager
def _temporary(file: NewFile) -> Iterator[Path]:
    """The whole content on disk under another name in the same directory."""
    path = file.path.with_name(f".{file.path.name}.{secrets.token_hex(4)}")
    try:
        _create(path, file.content, file.mode)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _create(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise _exists(path) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _exists(path: Path) -> ConfigurationError:
    return ConfigurationError(str(path), "exists already; nothing is overwritten")
