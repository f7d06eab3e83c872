"""How many refusals an address of the admin listener had: when to answer 429, and how many of them become events."""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

_EVENTS_A_MINUTE_OF_ONE = 10
_EVENTS_A_MINUTE_OF_ALL = 120
_MINUTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Counted:
    """One refusal. ``retry_after_seconds`` is None unless there were too many; ``is_event``: the audit hears of it."""

    retry_after_seconds: int | None
    is_event: bool


@dataclass(slots=True)
class _Network:
    refused_at: array[float] = field(default_factory=lambda: array("d"))
    has_announced: bool = False


class RefusalCounter:
    """Refusals by network (:func:`kipuka_core.model.client_network.client_network`), in bounded memory.

    More networks than ``max_networks`` at once: the one whose last refusal is longest ago is forgotten. What is
    answered with 429 is not counted, so that somebody who goes on asking comes free all the same.
    """

    def __init__(
        self,
        *,
        limit: int = 300,
        window_seconds: float = 900.0,
        max_networks: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._max_networks = max_networks
        self._clock = clock
        self._networks: OrderedDict[str, _Network] = OrderedDict()
        self._events_at: array[float] = array("d")

    def count(self, network: str) -> Counted:
        """Count a refusal of this network, or say how long it has to wait."""
        now = self._clock()
        entry = self._networks.setdefault(network, _Network())
        self._networks.move_to_end(network)
        while len(self._networks) > self._max_networks:
            self._networks.popitem(last=False)
        _forget_until(entry.refused_at, now - self._window_seconds)
        if len(entry.refused_at) >= self._limit:
            wait = entry.refused_at[0] + self._window_seconds - now
            is_first, entry.has_announced = not entry.has_announced, True
            return Counted(max(1, math.ceil(wait)), is_first and self._may_be_event(now))
        entry.has_announced = False
        entry.refused_at.append(now)
        last_minute = len(entry.refused_at) - bisect_right(entry.refused_at, now - _MINUTE_SECONDS)
        return Counted(None, last_minute <= _EVENTS_A_MINUTE_OF_ONE and self._may_be_event(now))

    def _may_be_event(self, now: float) -> bool:
        """Many addresses together do not fill the audit trail either."""
        _forget_until(self._events_at, now - _MINUTE_SECONDS)
        if len(self._events_at) >= _EVENTS_A_MINUTE_OF_ALL:
            return False
        self._events_at.append(now)
        return True


def _forget_until(moments: array[float], until: float) -> None:
    del moments[: bisect_right(moments, until)]
