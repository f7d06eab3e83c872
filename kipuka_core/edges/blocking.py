"""Blocking work in a bounded set of worker threads; what does not fit is refused rather than queued for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from kipuka_core.errors import Unavailable

ResultT = TypeVar("ResultT")
_WAITING_PER_THREAD = 32


class BlockingWork:
    """Worker threads for slow cryptography (RSA of 3072 bits and more, password hashes)."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or max(2, os.cpu_count() or 2)
        self._limiter: anyio.CapacityLimiter | None = None
        self._admitted = 0

    async def run(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Return ``function(*arguments)``.

        Raises Unavailable when so much is waiting already that the answer would come too late.
        """
        if self._limiter is None:  # belongs to the event loop that uses it
            self._limiter = anyio.CapacityLimiter(self._threads)
        # Counted here: those that have come within one turn of the event loop do not wait yet, as anyio sees it.
        if self._admitted >= self._threads * (1 + _WAITING_PER_THREAD):
            raise Unavailable(
                "the server is overloaded; repeat the request later", retry_after_seconds=10, code="overloaded"
            )
        self._admitted += 1
        try:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)
        finally:
            self._admitted -= 1
