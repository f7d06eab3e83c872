"""What clients can make happen as fast as the network carries it: told in full first, then gathered and counted.

Memory and the number of events have bounds that no client can move, and what goes beyond them is counted and not
forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kipuka_core.model.client_network import client_network

WhatT = TypeVar("WhatT", bound=Hashable)
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatLimits:
    """How much is said in one interval, and how much is remembered.

    ``first`` of each client's things of a kind are told ``at_once``, which bounds those of all clients together;
    ``gathered`` events sum up the repetitions of one client; what is beyond is one event per kind without an address.
    ``remembered`` are pairs of client and kind.
    """

    interval_seconds: float = 60.0
    first: int = 1
    at_once: int = 20
    gathered: int = 40
    remembered: int = 1024


@dataclass(frozen=True, slots=True)
class Gathered(Generic[WhatT, ItemT]):
    """``count`` things of a kind; ``last`` is None when they came from more clients than are told apart."""

    what: WhatT
    last: ItemT | None
    count: int


@dataclass(slots=True)
class _Seen(Generic[WhatT, ItemT]):
    """What one client did of one kind, since the last event of it."""

    what: WhatT
    last: ItemT
    told: int = 0
    pending: int = 0


class Repeats(Generic[WhatT, ItemT]):
    """Counts things by client (:func:`kipuka_core.model.client_network.client_network`) and kind."""

    def __init__(self, limits: RepeatLimits) -> None:
        self.limits = limits
        self._seen: dict[tuple[str, WhatT], _Seen[WhatT, ItemT]] = {}
        self._surplus: Counter[WhatT] = Counter()
        self._may_be_told = limits.at_once

    def is_news(self, address: str, what: WhatT, item: ItemT) -> bool:
        """Count one; True: it is to be told at once and in full."""
        key = client_network(address), what
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= self.limits.remembered:
                self._surplus[what] += 1
                return False
            seen = self._seen[key] = _Seen(what, item)
        seen.last = item
        if seen.told < self.limits.first and self._may_be_told and not seen.pending:
            seen.told += 1
            self._may_be_told -= 1
            return True
        seen.pending += 1
        return False

    def gathered(self) -> list[Gathered[WhatT, ItemT]]:
        """What was counted in the interval that ends now. Who was quiet in it is forgotten, and is news next time."""
        self._seen = {key: each for key, each in self._seen.items() if each.pending}
        pending = sorted(self._seen.values(), key=lambda each: -each.pending)
        named, unnamed = pending[: self.limits.gathered], pending[self.limits.gathered :]
        for each in unnamed:
            self._surplus[each.what] += each.pending
        found = [Gathered(each.what, each.last, each.pending) for each in named]
        found += [Gathered(what, None, count) for what, count in self._surplus.most_common()]
        for each in pending:
            each.told, each.pending = self.limits.first, 0
        self._surplus.clear()
        self._may_be_told = self.limits.at_once
        return found
