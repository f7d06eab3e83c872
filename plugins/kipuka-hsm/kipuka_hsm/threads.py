"""Threads that wait for a token, as many as it has sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kipuka_core import Unavailable

ResultT = TypeVar("ResultT")
_WAITING_PER_SESSION = 64


class SignerThreads:
    """Runs functions that have a token sign; what would wait too long is refused instead."""

    def __init__(self, sessions: int) -> None:
        self._threads = ThreadPoolExecutor(sessions, "hsm")
        self._most = sessions * (1 + _WAITING_PER_SESSION)
        self._running = 0

    async def run(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """``function(*arguments)`` in one of them. Raises Unavailable when too many wait already."""
        if self._running >= self._most:
            raise Unavailable(
                "the server is overloaded; repeat the request later", retry_after_seconds=10, code="overloaded"
            )
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        future.add_done_callback(self._done)  # a caller that is cancelled leaves its thread at work
        return await future

    def close(self) -> None:
        """Let them end; blocks until the last one has."""
        self._threads.shutdown()

    def _done(self, future: asyncio.Future[ResultT]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # seen: whoever waits gets it, and nobody may be waiting any more
