"""A clock for tests."""

from __future__ import annotations

from datetime import datetime, timedelta

from kipuka_core.testing.samples import NOW


class Clock:
    """Stands still until it is moved. Call it for the present moment, as ``Services.clock``."""

    def __init__(self, now: datetime = NOW) -> None:
        """``now`` has a time zone; the default is that of the sample requests."""
        if now.tzinfo is None:
            raise ValueError("the present moment needs a time zone")
        self.now = now

    def __call__(self) -> datetime:
        """The present moment, UTC."""
        return self.now

    def advance(self, **delta: float) -> datetime:
        """Move it, ``advance(minutes=5)`` (the words of :class:`datetime.timedelta`); the moment that it is then."""
        self.now += timedelta(**delta)
        return self.now
