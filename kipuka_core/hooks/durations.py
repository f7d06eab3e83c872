"""Durations as operators write them: ``"30s"``, ``"15m"``, ``"24h"``, ``"90d"``, or a number of seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

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


def format_duration(seconds: int) -> str:
    """A short way to write a duration: ``"15m"`` for 900, ``"90s"`` for 90, and ``"24h"`` rather than ``"1d"``."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % length == 0 and seconds > length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    int,
    Field(ge=1, le=_LONGEST_SECONDS),
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema(
        {
            "x-kind": "duration",
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{1,10}[smhd]$"},
                {"type": "integer", "minimum": 1, "maximum": _LONGEST_SECONDS},
            ],
        }
    ),
]
"""The type of a settings field that holds a duration of at least one second; its value is in seconds, and its JSON form
is what a person writes."""
