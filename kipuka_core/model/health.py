"""How well something is."""

from __future__ import annotations

from enum import StrEnum


class HealthStatus(StrEnum):
    """``degraded``: some of it works. Answered with 200 like ``healthy``; ``unhealthy`` with 503."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
