"""What every port has."""

from __future__ import annotations

from abc import ABC


class Port(ABC):
    """What every port has."""

    async def ping(self) -> None:
        """Return when this works, raise when it does not. For readiness; the default says it works."""
        return
