"""Several CAs for one purpose: which one is asked, and what becomes of one that is away.

Each process judges its CAs by what it has seen itself. A group never sends a request to a second CA unless the first
has surely not issued.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from kipuka_core.errors import Unavailable
from kipuka_core.model.ca_group import Strategy

_LONGEST_PROBE_SECONDS = 60.0
"""A probe whose end nobody has told: the next one may begin."""


class CircuitState(StrEnum):
    """How a CA is seen by this process."""

    CLOSED = "closed"
    """It is asked."""
    OPEN = "open"
    """It is away, and left alone for a while."""
    HALF_OPEN = "half-open"
    """One request tries it."""


@dataclass(slots=True)
class Circuit:
    """Leaves a CA alone that has failed some times in a row, for a while; then one request tries it."""

    failures: int
    cool_down_seconds: float
    clock: Callable[[], float] = time.monotonic
    _failed: int = field(init=False, default=0)
    _open_until: float | None = field(init=False, default=None)
    _probing_since: float | None = field(init=False, default=None)

    @property
    def state(self) -> CircuitState:
        """As it is now."""
        if self._open_until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self.clock() < self._open_until else CircuitState.HALF_OPEN

    @property
    def rest_seconds(self) -> float:
        """Until it may be tried."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self.clock())

    def admits(self) -> bool:
        """Whether a request may go there now; of a half-open one, the only one that may."""
        state = self.state
        if state is CircuitState.HALF_OPEN:
            now = self.clock()
            if self._probing_since is not None and now - self._probing_since < _LONGEST_PROBE_SECONDS:
                return False
            self._probing_since = now
        return state is not CircuitState.OPEN

    def note(self, is_well: bool | None) -> None:
        """What a request that was admitted has seen; None: nothing of the CA."""
        if is_well is None:
            self._probing_since = None
        elif is_well:
            self.succeeded()
        else:
            self.failed()

    def succeeded(self) -> None:
        """It has answered, be it with a refusal."""
        self._failed, self._open_until, self._probing_since = 0, None, None

    def failed(self) -> None:
        """It was away, or gave no clear answer."""
        self._failed += 1
        self._probing_since = None
        if self._failed >= self.failures or self._open_until is not None:
            self._open_until = self.clock() + self.cool_down_seconds


@dataclass(slots=True)
class CaGroup:
    """``[[ca_group]]``."""

    id: str
    members: tuple[str, ...]
    strategy: Strategy
    weights: Mapping[str, int]
    circuits: Mapping[str, Circuit]
    _turns: Iterator[int] = field(init=False, default_factory=itertools.count)
    _current: dict[str, int] = field(init=False, default_factory=dict)

    def order(self) -> Sequence[str]:
        """Every member, in the order in which this request asks them."""
        if self.strategy is Strategy.ORDERED:
            return self.members
        if self.strategy is Strategy.ROUND_ROBIN:
            first = next(self._turns) % len(self.members)
            return self.members[first:] + self.members[:first]
        first_by_weight = self._next_by_weight()
        rest = sorted(
            (each for each in self.members if each != first_by_weight), key=lambda each: -self.weights.get(each, 1)
        )
        return (first_by_weight, *rest)

    def candidates(self) -> Iterator[str]:
        """Those that may be asked now. Raises Unavailable when there was none."""
        found = False
        for member in self.order():
            if self.circuits[member].admits():
                found = True
                yield member
        if not found:
            rest = min(circuit.rest_seconds for circuit in self.circuits.values())
            raise Unavailable(
                "no certification authority can be reached now; repeat the request later",
                retry_after_seconds=max(1, round(rest)),
                code="ca_unavailable",
            )

    def _next_by_weight(self) -> str:
        """Smooth: those of little weight come in between, not all at the end."""
        weights = {each: self.weights.get(each, 1) for each in self.members}
        for member, weight in weights.items():
            self._current[member] = self._current.get(member, 0) + weight
        chosen = max(self.members, key=lambda each: self._current[each])
        self._current[chosen] -= sum(weights.values())
        return chosen
