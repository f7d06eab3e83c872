"""What an administrator looks for, and a page of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

COUNTED_AT_MOST = 10_000
"""Beyond this many, a total says that there are more, and no search skips further; its cursor goes on."""
PAGE_AT_MOST = 1000


class SearchStatus(StrEnum):
    """A certificate as a person sees it."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"
    """Neither revoked nor in time any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateQuery:
    """Certificates that meet all of these; None: whatever it is."""

    ca_id: str | None = None
    status: SearchStatus | None = None
    subject: str | None = None
    """A CN or SAN value as a whole, or the beginning of one with ``*`` at its end; upper and lower case are alike."""
    serial_hex: str | None = None
    """Lower case, without leading zeros."""
    identity: str | None = None
    label: str | None = None
    expires_before: datetime | None = None
    expires_after: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every certificate meets it."""
        return all(getattr(self, each.name) is None for each in fields(self))

    @property
    def subject_prefix(self) -> str | None:
        """The beginning of a name that ``subject`` asks for, in lower case; None when it asks for a whole one."""
        return None if self.subject is None or not self.subject.endswith("*") else self.subject[:-1].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Audit facts that meet all of these; None: whatever it is."""

    event: str | None = None
    actor: str | None = None
    target: str | None = None
    """What it was done to: a serial number, a subject, an entity id, a one-time password's id or a request's id."""
    since: datetime | None = None
    until: datetime | None = None
    """The moment itself not included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWanted:
    """Which part of what was found; ``after`` is the ``next`` of the page before, ``offset`` skips."""

    limit: int = 50
    after: str | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[ItemT]):
    """A part of what was found, and where it goes on."""

    items: Sequence[ItemT]
    next: str | None = None
    """The cursor of the next page; None: there is none."""
    total: int = 0
    """How many there are in all, counted up to ``COUNTED_AT_MOST`` and one."""

    @property
    def total_text(self) -> str:
        """The total as ``X-Total-Count`` has it."""
        return str(self.total) if self.total <= COUNTED_AT_MOST else f"{COUNTED_AT_MOST}+"


class BadCursor(ValueError):
    """A cursor that no page of this search has handed out."""

    def __init__(self) -> None:
        super().__init__("is no cursor of this search; take it from the Link header of the page before")
