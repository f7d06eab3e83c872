"""Failed handshakes as audit events: each cause of each client once at once, its repetitions gathered by the minute.

Whoever can reach the port can fail handshakes as fast as the network carries them (:mod:`kipuka_core.edges.repeats`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from kipuka_core.edges.log import get_logger
from kipuka_core.edges.repeats import RepeatLimits, Repeats
from kipuka_core.edges.serving.handshake import FailedHandshake, HandshakeCause
from kipuka_core.model.event import Event, HandshakeFailed

_log = get_logger()


ReportLimits = RepeatLimits
"""How much is said of failed handshakes in one interval, and how much is remembered of them."""
_LIMITS = ReportLimits()


class HandshakeReports:
    """Turns failed handshakes into few events, whatever their number. ``by_cause`` counts all of them since the start.

    ``emit`` takes the events, one at a time.
    """

    def __init__(
        self,
        emit: Callable[[Event], Awaitable[None]],
        listener: str = "est",
        *,
        limits: RepeatLimits = _LIMITS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.by_cause: Counter[HandshakeCause] = Counter()
        self._take = emit
        self._listener = listener
        self._limits = limits
        self._clock = clock
        self._repeats: Repeats[HandshakeCause, FailedHandshake] = Repeats(limits)
        self._at_once: deque[Event] = deque()
        self._something_to_say = asyncio.Event()

    def report(self, failed: FailedHandshake) -> None:
        """Count a failed handshake; never blocks, never raises."""
        self.by_cause[failed.cause] += 1
        if self._repeats.is_news(failed.address, failed.cause, failed):
            self._at_once.append(self._event(failed, 1))
            self._something_to_say.set()

    async def run(self) -> None:
        """Emit what is reported until cancelled, then what is pending, and log how many there were of each cause."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                until = loop.time() + self._limits.interval_seconds
                while await self._is_to_say_before(until):
                    await self._say()
                await self._say(*self._gathered())
        except asyncio.CancelledError:
            await self._say(*self._gathered())
            if self.by_cause:
                counts = {str(cause): count for cause, count in self.by_cause.most_common()}
                _log.info("handshakes that failed since the start", listener=self._listener, **counts)
            raise

    async def _is_to_say_before(self, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                await self._something_to_say.wait()
        except TimeoutError:
            return False
        return True

    async def _say(self, *more: Event) -> None:
        self._something_to_say.clear()
        self._at_once.extend(more)
        while self._at_once:
            await self._emit(self._at_once.popleft())

    async def _emit(self, event: Event) -> None:
        """An event that has been begun is finished, also when this task is cancelled meanwhile."""
        emitting = asyncio.ensure_future(self._take(event))
        try:
            await asyncio.shield(emitting)
        except asyncio.CancelledError:
            await asyncio.gather(emitting, return_exceptions=True)
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this one, the next may go through
            _log.error("a failed handshake was not recorded", exception=type(error).__name__)

    def _gathered(self) -> list[Event]:
        """The events of the interval that ends now."""
        return [
            self._event(each.last or FailedHandshake("", each.what, ""), each.count)
            for each in self._repeats.gathered()
        ]

    def _event(self, failed: FailedHandshake, count: int) -> Event:
        where = failed.detail if failed.address else "from many addresses"
        return HandshakeFailed(
            time=self._clock(),
            source_address=failed.address,
            listener=self._listener,
            cause=failed.cause,
            count=count,
            reason=f"{failed.cause.meaning} ({where})" if where else failed.cause.meaning,
        )
