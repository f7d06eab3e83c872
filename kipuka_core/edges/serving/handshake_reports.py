"""Failed handshakes as audit events: each cause of each client once at once, its repetitions gathered by the minute.

Whoever can reach the port can fail handshakes as fast as the network carries them. So memory and the number of events
have bounds that no client can move, and what goes beyond them is counted and not forgotten.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kipuka_core.edges.log import get_logger
from kipuka_core.edges.serving.handshake import FailedHandshake, HandshakeCause
from kipuka_core.model.client_network import client_network
from kipuka_core.model.event import Event, HandshakeFailed

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLimits:
    """How much is said of failed handshakes in one interval, and how much is remembered of them.

    ``at_once`` are events of clients that were not seen failing like this a moment before, ``gathered`` those that sum
    up the repetitions of one client; what is beyond is one event per cause without an address. ``remembered`` are
    pairs of client and cause.
    """

    interval_seconds: float = 60.0
    at_once: int = 20
    gathered: int = 40
    remembered: int = 1024


@dataclass(slots=True)
class _Seen:
    """What one client did of one kind, since the last event of it."""

    last: FailedHandshake
    pending: int = 0


class HandshakeReports:
    """Turns failed handshakes into few events, whatever their number. ``by_cause`` counts all of them since the start.

    ``emit`` takes the events, one at a time.
    """

    def __init__(
        self,
        emit: Callable[[Event], Awaitable[None]],
        listener: str = "est",
        *,
        limits: ReportLimits = ReportLimits(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.by_cause: Counter[HandshakeCause] = Counter()
        self._take = emit
        self._listener = listener
        self._limits = limits
        self._clock = clock
        self._seen: dict[tuple[str, HandshakeCause], _Seen] = {}
        self._surplus: Counter[HandshakeCause] = Counter()
        self._at_once: deque[Event] = deque()
        self._may_say_at_once = limits.at_once
        self._something_to_say = asyncio.Event()

    def report(self, failed: FailedHandshake) -> None:
        """Count a failed handshake; never blocks, never raises."""
        self.by_cause[failed.cause] += 1
        key = client_network(failed.address), failed.cause
        seen = self._seen.get(key)
        if seen is None and len(self._seen) >= self._limits.remembered:
            self._surplus[failed.cause] += 1
            return
        if seen is not None:
            seen.last = failed
            seen.pending += 1
            return
        self._seen[key] = _Seen(failed)
        if self._may_say_at_once:
            self._may_say_at_once -= 1
            self._at_once.append(self._event(failed, 1))
            self._something_to_say.set()
        else:
            self._seen[key].pending = 1

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
        """The events of the interval that ends now. Who was quiet in it is forgotten, and news again next time."""
        pending = sorted((each for each in self._seen.values() if each.pending), key=lambda each: -each.pending)
        named, unnamed = pending[: self._limits.gathered], pending[self._limits.gathered :]
        events = [self._event(each.last, each.pending) for each in named]
        for each in unnamed:
            self._surplus[each.last.cause] += each.pending
        events += [self._event(FailedHandshake("", cause, ""), count) for cause, count in self._surplus.most_common()]
        self._seen = {key: _Seen(each.last) for key, each in self._seen.items() if each.pending}
        self._surplus.clear()
        self._may_say_at_once = self._limits.at_once
        return events

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
