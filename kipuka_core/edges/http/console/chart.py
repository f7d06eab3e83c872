"""Bars of a chart, as numbers that a template writes into SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

HEIGHT = 100
"""Of the drawing, in its own units; a bar has ten units of width, and two of them are the gap."""
_STEP, _GAP = 10, 2
_LEAST = 1.5
"""The least height of a bar that is not nothing: one among thousands is seen too."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One day."""

    day: date
    count: int
    x: int
    y: float
    width: int
    height: float


def bars(counts: Sequence[tuple[date, int]]) -> list[Bar]:
    """A bar for each day, the highest as high as the drawing."""
    most = max((count for _, count in counts), default=0) or 1
    found = []
    for place, (day, count) in enumerate(counts):
        height = max(_LEAST, round(count / most * HEIGHT, 2)) if count else 0.0
        found.append(Bar(day, count, place * _STEP, round(HEIGHT - height, 2), _STEP - _GAP, height))
    return found
