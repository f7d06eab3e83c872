"""Event sink ``jsonl``: one JSON object per line, appended to a file and on disk before ``emit`` returns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from pydantic import Field

from kipuka_builtin.append_file import AppendFile, check_appendable
from kipuka_core import ConfigurationError, Event, EventSink, Provider, Services, Settings
from kipuka_core.hooks.secret_files import shown


class JsonlSettings(Settings):
    """``[[audit.sink]]`` with ``use = "jsonl"``."""

    path: Path | None = Field(
        default=None, description="The file to append to. Default: audit.jsonl in the state directory."
    )


class JsonlSink(EventSink):
    """Appends events in batches: everything that waits while one batch is written becomes the next one.

    The writing is a task of its own, so an ``emit`` that is cancelled takes nobody else's event with it; its own
    event is written all the same.
    """

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._batch: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        # A thread of its own: an audit line must not wait behind password hashes, nor meet the limit for them.
        self._thread = anyio.CapacityLimiter(1)

    async def emit(self, event: Event) -> None:
        """Return when the line is on disk. Raises OSError when it is not, to everybody in the batch."""
        if self._closed:
            raise RuntimeError("this event sink is closed")
        # ASCII only: no line separator of Unicode and no lone surrogate can break a line or a reader.
        line = json.dumps(event.as_dict(), separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((line, written))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
            self._writer.add_done_callback(self._writer_ended)
        await written

    async def ping(self) -> None:
        """Raise OSError when the file cannot be appended to."""
        await anyio.to_thread.run_sync(self._file.reopen_if_moved, limiter=self._thread)

    async def close(self) -> None:
        """Write what waits, then close the file."""
        self._closed = True
        if self._writer is not None:
            await asyncio.wait([self._writer])
        self._file.close()

    async def _write_waiting(self) -> None:
        while self._waiting:
            self._batch, self._waiting = self._waiting, []
            failure = await self._write(b"".join(line for line, _ in self._batch))
            for _, written in self._batch:
                _settle(written, failure)
        self._writer = None

    def _writer_ended(self, writer: asyncio.Task[None]) -> None:
        if self._writer is not writer:
            return
        # It was stopped from outside, perhaps before its first step: nobody shall wait for ever, or take it as written.
        self._writer = None
        for _, written in (*self._batch, *self._waiting):
            _settle(written, OSError("the writing of the audit file was stopped"))
        self._waiting = []

    async def _write(self, lines: bytes) -> OSError | None:
        try:
            await anyio.to_thread.run_sync(self._file.append, lines, limiter=self._thread)
        except OSError as error:
            return error
        return None


def _settle(written: asyncio.Future[None], failure: OSError | None) -> None:
    if written.done():  # its emit was cancelled
        return
    if failure is None:
        written.set_result(None)
    else:  # one exception object each: their tracebacks grow apart
        written.set_exception(OSError(*failure.args))


class _Silent(EventSink):
    """Stands in where nothing happens that has to be written down."""

    async def emit(self, event: Event) -> None:
        """Return."""


@asynccontextmanager
async def _open(settings: JsonlSettings, services: Services) -> AsyncIterator[EventSink]:
    path = services.state_dir / "audit.jsonl" if settings.path is None else services.base_dir / settings.path
    try:
        if services.dry_run:  # the file that root makes over a check is one that the server cannot write
            check_appendable(path)
            yield _Silent()
            return
        sink = JsonlSink(AppendFile(path))
    except OSError as error:
        raise ConfigurationError(shown(path), f"cannot be opened for appending: {error.strerror}") from None
    try:
        yield sink
    finally:
        await sink.close()


PROVIDER: Provider[EventSink] = Provider("jsonl", JsonlSettings, _open)
