"""Telling the audit sinks of what administrators do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from kipuka_core.domain.ports import EventHub
from kipuka_core.errors import Unavailable
from kipuka_core.model.event import Event

_TOGETHER = 250
"""So few that a sink has written them all well within ``[plugins] timeout``."""


async def announce_all(events: EventHub, facts: Sequence[Event]) -> None:
    """Before rights are given. Raises Unavailable when a required sink failed: then nothing may be given."""
    for start in range(0, len(facts), _TOGETHER):
        # Together: a sink that writes in batches does so once. All end, so that none is written after the answer.
        few = facts[start : start + _TOGETHER]
        outcomes = await asyncio.gather(*map(events.announce, few), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome


async def tell_all(events: EventHub, facts: Sequence[Event]) -> None:
    """After rights were taken away, which stays so whoever hears of it; the store has the facts already."""
    with suppress(Unavailable):  # of which the log was told
        await announce_all(events, facts)
