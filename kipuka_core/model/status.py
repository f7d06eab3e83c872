"""What the world is told about certificates issued here: CRLs, and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlFacts:
    """A CRL without its bytes."""

    issuer_key_id: str
    ca_id: str
    number: int
    """CRLNumber (RFC 5280 5.2.3)."""
    changes: int
    """Up to which change of status (:class:`RevocationState`) it knows."""
    entries: int
    this_update: datetime
    next_update: datetime
    scheduled_at: datetime
    """thisUpdate of the newest CRL, this one or an earlier one, that was made because its time had come."""


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """A CRL that the store has: the only ones that anybody gets to see."""

    facts: CrlFacts
    der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RevocationState:
    """Of one issuer's key, as the store has it now."""

    changes: int
    """How often the status of one of its certificates has changed."""
    newest: CrlFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """The present status of a certificate that was revoked at some time, or revoked and released."""

    serial_hex: str
    not_after: datetime
    change: int
    """The number of its newest change."""
    revoked_at: datetime | None
    """None: it is not revoked any more."""
    reason: int | None


@dataclass(frozen=True, slots=True)
class RecordedStatus:
    """What the store says of a certificate that is on record."""

    revoked_at: datetime | None
    """None: it is not revoked."""
    reason: int | None
