"""What the CA has said about coming back later (RFC 8555 6.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from kipuka_acme.shapes import Identifier
from kipuka_core import Unavailable

_OTHERS_SECONDS = 300
_MOST_NAMES = 10_000


class RateLimits:
    """Until when no order is made: for the same names as long as the CA says, for others five minutes at most.

    The answer does not say whether a limit is the account's or that of a few names, and one device that asks too often
    must not keep a fleet from its certificates for a week.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._all_until: datetime | None = None
        self._until: dict[frozenset[Identifier], datetime] = {}

    def check(self, names: Iterable[Identifier]) -> None:
        """Raises Unavailable, with what is left of the time."""
        now = self._clock()
        ends = [
            each for each in (self._all_until, self._until.get(frozenset(names))) if each is not None and each > now
        ]
        if ends:
            raise Unavailable(
                "the certification authority takes no more orders for now",
                retry_after_seconds=int((max(ends) - now).total_seconds()) + 1,
                code="ca_rate_limited",
            )

    def hold(self, names: Iterable[Identifier], seconds: int) -> None:
        """The CA has refused an order for these names, for so long."""
        now = self._clock()
        self._until = {each: until for each, until in self._until.items() if until > now}
        if len(self._until) < _MOST_NAMES:
            self._until[frozenset(names)] = now + timedelta(seconds=seconds)
        self._all_until = now + timedelta(seconds=min(seconds, _OTHERS_SECONDS))
