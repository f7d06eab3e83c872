"""A deadline that moves often and is met seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watchdog:
    """Calls ``on_expired`` once when a deadline passes.

    Moving the deadline costs no timer of the event loop: one timer stays and, when it fires early, is set again.
    """

    __slots__ = ("_deadline", "_loop", "_on_expired", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], object]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float | None) -> None:
        """Move the deadline to ``seconds`` from now; None takes it away."""
        self._deadline = None if seconds is None else self._loop.time() + seconds
        if self._deadline is None:
            return
        if self._timer is not None and self._timer.when() > self._deadline:
            self.cancel()
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._fire)

    def set_at_most(self, seconds: float) -> None:
        """Move the deadline to ``seconds`` from now unless it comes earlier."""
        if self._deadline is None or self._deadline > self._loop.time() + seconds:
            self.set(seconds)

    def cancel(self) -> None:
        """Forget the timer; the last call of a watchdog's life."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._fire)
        else:
            self._deadline = None
            self._on_expired()
