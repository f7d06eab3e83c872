"""What the store remembers, as the rest of kipuka sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class CertificateStatus(StrEnum):
    """Of a recorded certificate. Expiry is not a status: it is in the certificate."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCertificate:
    """A row of the certificates table. ``serial_hex`` is lower-case hex without leading zeros."""

    issuer_key_id: str
    """Hex SHA-256 of the issuer's SubjectPublicKeyInfo: survives a renewed CA certificate."""
    serial_hex: str
    ca_id: str
    label: str
    entity_id: str
    subject: str
    sans: tuple[str, ...]
    key_type: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    certificate_der: bytes = field(repr=False)
    status: CertificateStatus = CertificateStatus.ACTIVE
    revoked_at: datetime | None = None
    revocation_reason: int | None = None
    request_id: str = ""
    authenticator: str = ""
    otp_id: str | None = None
    csr_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimePassword:
    """A row of the one-time password table; the token itself is nowhere."""

    id: str
    token_hash: bytes = field(repr=False)
    entity_id: str
    label: str | None
    """None: good at every label; ``""`` only at the door without one."""
    created_at: datetime
    expires_at: datetime
    max_usage: int
    usage_count: int = 0
    revoked_at: datetime | None = None
    subject_pattern: str | None = None
    """What every name of the certificate has to match; see
    :class:`~kipuka_core.model.identity.OneTimeCredential`."""


class RequestState(StrEnum):
    """Of a row of the requests table."""

    INTENT = "intent"
    """An external CA is about to be asked, or was asked and its answer is unknown."""
    WAITING = "waiting"
    """For a person."""
    PENDING = "pending"
    """With an external CA, which has not decided yet."""
    ISSUED = "issued"
    """The certificate is there; the client has not fetched it yet, or may fetch it again."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtCa:
    """What is on record of a request that an external CA has been, or is about to be, asked for."""

    ca_id: str
    template_der: bytes = field(repr=False)
    """What was approved (:mod:`kipuka_core.domain.template_record`)."""
    issuer_der: bytes = field(repr=False)
    """The CA's certificate then."""
    asked_at: datetime
    reference: str = ""
    """What the CA knows it by, as far as it has said so."""
    next_poll_at: datetime | None = None
    """When somebody shall look what has become of it. None: a person has to."""
    polls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequest:
    """A request that outlives its connection. ``key`` identifies the repeated identical request (RFC 7030 4.2.3)."""

    id: str
    key: str
    state: RequestState
    operation: str
    label: str
    entity_id: str
    authenticator: str
    names: tuple[str, ...] = ()
    """Of the identity (``ClientIdentity.names``), so that policies can judge again at approval."""
    csr_der: bytes = field(repr=False)
    client_certificate_der: bytes | None = field(default=None, repr=False)
    otp_id: str | None = None
    subject_pattern: str | None = None
    """That of the one-time password."""
    reason: str = ""
    retry_after_seconds: int = 60
    source_address: str = ""
    tls_version: str = ""
    created_at: datetime
    decided_at: datetime | None = None
    certificate_der: bytes | None = field(default=None, repr=False)
    at_ca: AtCa | None = None


class Reservation(StrEnum):
    """What became of the attempt to reserve a one-time password."""

    RESERVED = "reserved"
    USED = "used"
    BUSY = "busy"
    EXPIRED = "expired"
    REVOKED = "revoked"
    OTHER_LABEL = "other_label"
    UNKNOWN = "unknown"
