"""A file that only grows, line by line, although processes crash, disks fill up and logrotate moves it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from errno import EACCES, ENOENT, ENOSPC
from pathlib import Path

from kipuka_core import sync_directory


class AppendFile:
    """Whole lines, appended and synchronised. Blocking, and for one thread at a time.

    Several processes may append to one file: each batch is a single ``write`` at the end, under a lock of the file.
    Nothing is ever truncated, so the file may be marked append-only (``chattr +a``).
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or create it for its owner alone. Raises OSError."""
        self.path = path
        self._descriptor = _open(path)

    def append(self, compose: Callable[[int], bytes]) -> None:
        """Return when the lines are on disk that ``compose`` makes, given the byte of the file where they will begin.

        Raises OSError when they are not, or not wholly: a torn line stays, and the next batch begins on a new one.
        """
        self.reopen_if_moved()
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._descriptor).st_size
            is_torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"  # by a crash or a full disk
            lines = b"\n" * is_torn + compose(size + is_torn)
            written = os.write(self._descriptor, lines)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        if written != len(lines):
            raise OSError(ENOSPC, f"only {written} of {len(lines)} bytes could be written", str(self.path))
        os.fsync(self._descriptor)

    def reopen_if_moved(self) -> None:
        """Go on in a new file when ours was moved or deleted. Raises OSError when there can be none."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        ours = os.fstat(self._descriptor)
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            descriptor = _open(self.path)
            os.close(self._descriptor)
            self._descriptor = descriptor

    def close(self) -> None:
        """Close the file; the second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check_appendable(path: Path) -> None:
    """Raise OSError where a file could not be appended to, or made; nothing is opened for good, and nothing is made."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            missing = not path.parent.exists()
            code = ENOENT if missing else EACCES
            raise OSError(code, os.strerror(code), str(path)) from None


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        sync_directory(path.parent)  # a new file is only there after a power cut when its directory is on disk
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
