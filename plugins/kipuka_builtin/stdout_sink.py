"""Event sink ``stdout``: one JSON object per line on standard output, for whoever collects it there.

An event counts as safe when the operating system has taken the line; what becomes of it then, the reader of the pipe
knows. The log goes to standard error, so the two do not mix.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from kipuka_builtin.batched_sink import BatchedSink
from kipuka_core import ConfigurationError, EventSink, Provider, Services, Settings
from kipuka_core.hooks.secret_files import shown

_STDOUT = 1


class StdoutSettings(Settings):
    """``[[audit.sink]]`` with ``use = "stdout"``."""


class StdoutSink(BatchedSink):
    """Writes whole lines, those of one process at a time."""

    def __init__(self, descriptor: int, lock_descriptor: int) -> None:
        super().__init__()
        self._lock = lock_descriptor
        self._descriptor = descriptor

    def write(self, batch: Sequence[bytes]) -> None:
        """Hand the lines over to the operating system."""
        lines = b"\n".join((*batch, b""))
        # A pipe takes long lines in pieces, and the workers share it.
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            while lines:
                lines = lines[self._write_some(lines) :]
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _write_some(self, lines: bytes) -> int:
        try:
            return os.write(self._descriptor, lines)
        except BlockingIOError:  # somebody has made the pipe a non-blocking one, for us too
            select.select((), (self._descriptor,), ())
            return 0

    async def ping(self) -> None:
        """Raise OSError when there is no standard output any more."""
        os.fstat(self._descriptor)

    def ended(self) -> None:
        """Let go of the lock; standard output stays."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@asynccontextmanager
async def _open(_settings: StdoutSettings, services: Services) -> AsyncIterator[EventSink]:
    path = os.devnull if services.dry_run else services.state_dir / "stdout.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(shown(str(path)), f"cannot be opened: {error.strerror}") from None
    sink = StdoutSink(_STDOUT, lock)
    try:
        yield sink
    finally:
        await sink.close()


PROVIDER: Provider[EventSink] = Provider("stdout", StdoutSettings, _open)
