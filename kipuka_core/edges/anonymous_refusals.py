"""Refusals of nobody known: the first of an address in full, those after them gathered. So nobody fills the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kipuka_core.edges.repeats import Gathered, RepeatLimits, Repeats
from kipuka_core.model.event import AdminRefused, EnrolmentRefused, Event

Refused = EnrolmentRefused | AdminRefused
_Kind = tuple[str, str]
"""The event's name and the refusal's code."""


def limits_for(in_full: int) -> RepeatLimits:
    """Limits with ``in_full`` refusals of an address and a code in a minute; of all addresses twelve times as many."""
    return RepeatLimits(first=in_full, at_once=12 * in_full)


class AnonymousRefusals:
    """Decides which refusals are told at once. Those of a known ``actor`` always are: each is of somebody."""

    def __init__(self, limits: RepeatLimits, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._repeats: Repeats[_Kind, Refused] = Repeats(limits)
        self._clock = clock

    def is_told(self, event: Event) -> bool:
        """Whether this event is to be told now. One that is not will be counted in a later one."""
        if not isinstance(event, EnrolmentRefused | AdminRefused) or event.actor:
            return True
        return self._repeats.is_news(event.source_address, (event.name, event.code), event)

    async def run(self, tell: Callable[[Event], Awaitable[None]]) -> None:
        """Tell what was gathered, once a minute, until cancelled; then what is left."""
        try:
            while True:
                await asyncio.sleep(self._repeats.limits.interval_seconds)
                await self._tell_gathered(tell)
        finally:
            await self._tell_gathered(tell)

    async def _tell_gathered(self, tell: Callable[[Event], Awaitable[None]]) -> None:
        for each in self._repeats.gathered():
            await tell(self._event(each))

    def _event(self, gathered: Gathered[_Kind, Refused]) -> Event:
        name, code = gathered.what
        now, last = self._clock(), gathered.last
        if last is None:
            reason = "from many addresses"
            if name == AdminRefused.name:
                return AdminRefused(time=now, code=code, path="", reason=reason, count=gathered.count)
            return EnrolmentRefused(time=now, code=code, reason=reason, count=gathered.count)
        # What the last one asked for need not be what the others did.
        same: dict[str, Any] = {"time": now, "request_id": "", "label": "", "tls_version": "", "count": gathered.count}
        if isinstance(last, AdminRefused):
            return replace(last, **same, path="")
        return replace(last, **same, operation="", authenticator="")
