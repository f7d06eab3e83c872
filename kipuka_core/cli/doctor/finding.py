"""What the doctor hands over: facts, and findings with what to do about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is. Only an error changes the exit code."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: ``what`` it is, and the ``remedy``, one line each.

    ``said_as`` is a part of what a later check would say of the same thing; empty: nothing else says it.
    """

    level: Level
    what: str
    remedy: str
    said_as: str = ""


@dataclass(slots=True)
class Section:
    """What one check has seen, by name in the order of seeing, and found."""

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def fact(self, name: str, value: object) -> None:
        """Note what is so."""
        self.facts.append((name, str(value)))

    def error(self, what: str, remedy: str, said_as: str = "") -> None:
        """Something that does not work, or that lets others in."""
        self.findings.append(Finding(Level.ERROR, what, remedy, said_as))

    def warning(self, what: str, remedy: str, said_as: str = "") -> None:
        """Something that will not work one day, or is worse than it need be."""
        self.findings.append(Finding(Level.WARNING, what, remedy, said_as))

    def note(self, what: str, remedy: str, said_as: str = "") -> None:
        """Something worth knowing."""
        self.findings.append(Finding(Level.NOTE, what, remedy, said_as))


def without_repetitions(sections: Iterable[Section]) -> list[Section]:
    """The same sections, each finding only where it was found first."""
    said: list[str] = []
    kept = []
    for section in sections:
        fresh = [each for each in section.findings if not any(text in each.what for text in said)]
        said += [text for each in fresh for text in (each.what, each.said_as) if text]
        kept.append(Section(section.title, section.facts, list(dict.fromkeys(fresh))))
    return kept
