"""Audit facts, one class each. An event says what happened, to whom, from where and why; it never holds a secret."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every audit fact has. ``name`` is the stable snake_case word that consumers filter on."""

    name: ClassVar[str] = "event"

    time: datetime
    request_id: str = ""
    actor: str = ""
    """Who did it: the authenticated entity, an operator, or ``""`` for nobody known."""
    label: str = ""
    source_address: str = ""
    tls_version: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with ``event`` and ``time`` (RFC 3339, UTC) first; empty fields left out."""
        stamp = self.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        named = ((name, getattr(self, name)) for name in _field_names(type(self)))
        return {"event": self.name, "time": stamp} | {name: value for name, value in named if value != ""}


_FIELD_NAMES: dict[type[Event], tuple[str, ...]] = {}


def _field_names(kind: type[Event]) -> tuple[str, ...]:
    """Looked up once per class: dataclasses.fields costs more than all the rest of a dictionary."""
    if kind not in _FIELD_NAMES:
        _FIELD_NAMES[kind] = tuple(field.name for field in fields(kind) if field.name != "time")
    return _FIELD_NAMES[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateIssued(Event):
    """A certificate was issued and recorded. Emitted to required sinks before it leaves."""

    name: ClassVar[str] = "certificate_issued"

    operation: str
    authenticator: str
    ca_id: str
    serial: str
    subject: str
    not_after: str
    key_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRefused(Event):
    """A request got no certificate; ``code`` is the error's stable word.

    Of the refusals of clients without an identity the first ones of an address in a minute are told in full, those
    after them as one event: ``count`` says how many. Without ``source_address`` they came from more clients than are
    told apart in a minute.
    """

    name: ClassVar[str] = "enrolment_refused"

    code: str
    operation: str = ""
    authenticator: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentWaiting(Event):
    """A request waits for a decision (202)."""

    name: ClassVar[str] = "enrolment_waiting"

    operation: str
    authenticator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentReplayed(Event):
    """The same certificate was handed out again to the same request (a lost answer)."""

    name: ClassVar[str] = "enrolment_replayed"

    operation: str
    authenticator: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDecided(Event):
    """A waiting request was approved or rejected by ``actor``."""

    name: ClassVar[str] = "request_decided"

    decision: str
    entity_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeld(Event):
    """Whether an external CA has issued is not known and cannot be found out: a person has to settle the request."""

    name: ClassVar[str] = "request_held"

    ca_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateDiscarded(Event):
    """An external CA issued something that must not be used; nobody was given it.

    ``revoked``: that CA was told so.
    """

    name: ClassVar[str] = "certificate_discarded"

    ca_id: str
    serial: str
    certificate: str
    """PEM."""
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationForwarded(Event):
    """The external CA that issued was told of a revocation; ``done`` is false where it refused."""

    name: ClassVar[str] = "revocation_forwarded"

    ca_id: str
    serial: str
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLockedOut(Event):
    """Too many wrong secrets: the pair of address and entity (or the whole address) is locked for a while."""

    name: ClassVar[str] = "client_locked_out"

    entity_id: str
    locked_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRevoked(Event):
    """A certificate was marked as revoked by ``actor``; ``reason`` is the RFC 5280 word."""

    name: ClassVar[str] = "certificate_revoked"

    serial: str
    ca_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateReleased(Event):
    """A certificate that was on hold counts again, by ``actor``."""

    name: ClassVar[str] = "certificate_released"

    serial: str
    ca_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockoutLifted(Event):
    """A lockout of ``address`` (with ``entity_id``: of the pair) was ended by ``actor`` before its time."""

    name: ClassVar[str] = "lockout_lifted"

    address: str
    entity_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpCreated(Event):
    """A one-time password was made for ``entity_id``."""

    name: ClassVar[str] = "otp_created"

    otp_id: str
    entity_id: str
    expires_at: str
    max_usage: int = 1
    subject_pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpRevoked(Event):
    """A one-time password was withdrawn."""

    name: ClassVar[str] = "otp_revoked"

    otp_id: str
    entity_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpsRemoved(Event):
    """``actor`` had the one-time passwords that ended before a moment removed; what was told of them stays."""

    name: ClassVar[str] = "otps_removed"

    ended_before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStarted(Event):
    """A worker opened everything, its audit sinks among it, and listens.

    ``configuration`` is its file, with the moment when that was last changed.
    """

    name: ClassVar[str] = "server_started"

    version: str
    listener: str = ""
    sinks: str = ""
    configuration: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSinkFailed(Event):
    """An audit sink does not take events; while it is ``required``, this worker issues nothing. Not in that sink."""

    name: ClassVar[str] = "audit_sink_failed"

    sink: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSinkRestored(Event):
    """An audit sink that failed takes events again. Events between are in the store, and are not repeated to it."""

    name: ClassVar[str] = "audit_sink_restored"

    sink: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFailed(Event):
    """Connections from ``source_address`` that never became one; ``cause`` is the stable word.

    ``reason`` says what to do. Many alike within a minute are one event: ``count`` says how many since the last one.
    Without ``source_address`` they came from more clients than are told apart in a minute.
    """

    name: ClassVar[str] = "handshake_failed"

    listener: str
    cause: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReloaded(Event):
    """Every process serves with certificate, key, trust anchors and CRLs as the files are now."""

    name: ClassVar[str] = "tls_reloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReloadFailed(Event):
    """Files were to be read again and something in them is wrong (``reason``): the old ones stay in use."""

    name: ClassVar[str] = "tls_reload_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRefused(Event):
    """A request to the admin API without the right to it; ``code`` is the stable word.

    Those of nobody known are gathered as those of ``enrolment_refused`` are: ``count`` says how many.
    """

    name: ClassVar[str] = "admin_refused"

    code: str
    path: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsArchived(Event):
    """Old records (``what``: certificates, requests, otps or events) left the database for a file."""

    name: ClassVar[str] = "records_archived"

    what: str
    count: int
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupMade(Event):
    """A copy of database and state directory, with its private keys, is being written to ``file``."""

    name: ClassVar[str] = "backup_made"

    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRestored(Event):
    """Database and state directory are as they were at the backup of ``made_at``."""

    name: ClassVar[str] = "backup_restored"

    made_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStopped(Event):
    """A worker ends, and with it its audit sinks: everything is closed in order."""

    name: ClassVar[str] = "server_stopped"

    listener: str = ""
