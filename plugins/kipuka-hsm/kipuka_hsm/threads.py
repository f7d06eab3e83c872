"""Threads that wait for a token, as many as it has sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

from kipuka_core import Unavailable

ResultT = TypeVar("ResultT")
_WAITING_PER_SESSION = 64
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def current_deadline() -> float | None:
    """Until when (:func:`time.monotonic`) what runs in this thread has to be done; None: nobody said."""
    return _deadline.get()


class SignerThreads:
    """Runs functions that have a token sign; what would wait too long is refused instead."""

    def __init__(self, sessions: int, budget_seconds: float) -> None:
        """``budget_seconds``: how long one function may take, the time included that it waits for a thread."""
        self._threads = ThreadPoolExecutor(sessions, "hsm")
        self._most = sessions * (1 + _WAITING_PER_SESSION)
        self._budget_seconds = budget_seconds
        self._running = 0

    async def run(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """``function(*arguments)`` in one of them. Raises Unavailable when too many wait already."""
        if self._running >= self._most:
            raise Unavailable(
                "the server is overloaded; repeat the request later", retry_after_seconds=10, code="overloaded"
            )
        self._running += 1
        deadline = time.monotonic() + self._budget_seconds

        def call() -> ResultT:
            token = _deadline.set(deadline)
            try:
                return function(*arguments)
            finally:
                _deadline.reset(token)

        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        future.add_done_callback(self._done)  # a caller that is cancelled leaves its thread at work
        return await future

    def close(self) -> None:
        """Let them end; blocks until the last one has."""
        self._threads.shutdown()

    def _done(self, future: asyncio.Future[ResultT]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # seen: whoever waits gets it, and nobody may be waiting any more
