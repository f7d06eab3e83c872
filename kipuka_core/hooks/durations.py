"""Durations as operators write them: ``"30s"``, ``"15m"``, ``"24h"``, ``"90d"``, or a number of seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WRITTEN = re.compile(r"([0-9]{1,10})([smhd])", re.ASCII)
_LONGEST_SECONDS = 36_525 * 86_400  # a century: beyond it, adding to a date may leave the calendar


def parse_duration(value: object) -> int:
    """Read a duration as whole seconds.

    Raises ValueError for anything but a whole number of seconds or a whole number with one unit.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a duration like "30s", "15m", "24h" or "90d", or a whole number of seconds')
    return int(match[1]) * _UNIT_SECONDS[match[2]]


Duration = Annotated[
    int,
    Field(ge=1, le=_LONGEST_SECONDS),
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{1,10}[smhd]$"},
                {"type": "integer", "minimum": 1, "maximum": _LONGEST_SECONDS},
            ]
        }
    ),
]
"""The type of a settings field that holds a duration of at least one second; its value is in seconds."""
