"""What a quick contract says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Only a problem is one."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing: something that could not be looked at, or that the plugin warns of."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``what`` is so; ``remedy`` is what to do about a problem, and may be what a note suggests."""

    level: Level
    what: str
    remedy: str = ""

    @classmethod
    def ok(cls, what: str) -> Finding:
        """As it should be."""
        return cls(Level.OK, what)

    @classmethod
    def note(cls, what: str, remedy: str = "") -> Finding:
        """Neither good nor bad."""
        return cls(Level.NOTE, what, remedy)

    @classmethod
    def problem(cls, what: str, remedy: str) -> Finding:
        """Not as it has to be."""
        return cls(Level.PROBLEM, what, remedy)
