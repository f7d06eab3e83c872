"""An event sink that writes in batches: everything that waits while one batch is written becomes the next one."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence

import anyio.to_thread

from kipuka_core import Event, EventSink


def event_json(event: Event) -> bytes:
    """ASCII only: no line separator of Unicode and no lone surrogate can break a line or a reader."""
    return json.dumps(event.as_dict(), separators=(",", ":"), allow_nan=False).encode("ascii")


class BatchedSink(EventSink):
    """Subclasses say how a batch is written, in a thread of their own and one at a time.

    The writing is a task of its own, so an ``emit`` that is cancelled takes nobody else's event with it; its own
    event is written all the same.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._batch: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        # A thread of its own: an audit line must not wait behind password hashes, nor meet the limit for them.
        self._thread = anyio.CapacityLimiter(1)

    @abstractmethod
    def write(self, batch: Sequence[bytes]) -> None:
        """Return when what :meth:`encode` made is safe. Blocking. Raises OSError, which everybody in it gets."""

    def encode(self, event: Event) -> bytes:
        """What is to be written of an event; what this raises is its emitter's own affair. The default is its JSON."""
        return event_json(event)

    def written(self) -> None:
        """Called on the event loop when a batch is safe, before those who wait for it learn of it."""

    def ended(self) -> None:
        """Called when nothing will be written any more."""

    async def emit(self, event: Event) -> None:
        """Return when the event is safe. Raises OSError when it is not, to everybody in the batch."""
        if self._closed:
            raise RuntimeError("this event sink is closed")
        encoded = self.encode(event)
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((encoded, written))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
            self._writer.add_done_callback(self._writer_ended)
        await written

    async def close(self) -> None:
        """Write what waits, then close what is written to."""
        self._closed = True
        if self._writer is not None:
            await asyncio.wait([self._writer])
        self.ended()

    async def _write_waiting(self) -> None:
        while self._waiting:
            self._batch, self._waiting = self._waiting, []
            failure = await self._write([encoded for encoded, _ in self._batch])
            if failure is None:
                self.written()
            for _, written in self._batch:
                _settle(written, failure)
        self._writer = None

    def _writer_ended(self, writer: asyncio.Task[None]) -> None:
        if self._writer is not writer:
            return
        # It was stopped from outside, perhaps before its first step: nobody shall wait for ever, or take it as written.
        self._writer = None
        for _, written in (*self._batch, *self._waiting):
            _settle(written, OSError("the writing of audit events was stopped"))
        self._waiting = []

    async def _write(self, batch: Sequence[bytes]) -> OSError | None:
        try:
            await anyio.to_thread.run_sync(self.write, batch, limiter=self._thread)
        except OSError as error:
            return error
        return None

    async def in_thread(self, function: Callable[[], None]) -> None:
        """Run a blocking function where the batches are written, between two of them."""
        await anyio.to_thread.run_sync(function, limiter=self._thread)


def _settle(written: asyncio.Future[None], failure: OSError | None) -> None:
    if written.done():  # its emit was cancelled
        return
    if failure is None:
        written.set_result(None)
    else:  # one exception object each: their tracebacks grow apart
        written.set_exception(OSError(*failure.args))
