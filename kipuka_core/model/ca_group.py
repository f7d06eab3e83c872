"""Several CAs for one purpose."""

from __future__ import annotations

from enum import StrEnum


class Strategy(StrEnum):
    """Which member is asked first."""

    ORDERED = "ordered"
    """The first that is not away."""
    ROUND_ROBIN = "round-robin"
    WEIGHTED = "weighted"
    """As often as its weight says."""
