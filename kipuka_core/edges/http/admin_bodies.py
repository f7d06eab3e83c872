"""What goes over the admin API as JSON: every name of it stands here, and each body is read or written by its model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    StringConstraints,
    WithJsonSchema,
    model_serializer,
)

from kipuka_core.domain.admin.reasons import RevocationReason
from kipuka_core.domain.admin.waiting import MAX_REASON_LENGTH
from kipuka_core.domain.one_time_passwords import MAX_PATTERN_LENGTH
from kipuka_core.model.entity_id import MAX_ENTITY_ID_LENGTH
from kipuka_core.model.health import HealthStatus
from kipuka_core.model.record import RequestState
from kipuka_core.model.search import COUNTED_AT_MOST, PAGE_AT_MOST, SearchStatus

TEN_YEARS_SECONDS = 10 * 366 * 86_400
MOST_USES = 1_000_000
_LONGEST_TEXT = 1000
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)

# No database takes a NUL in a text.
Text = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_TEXT, pattern=r"^[^\x00]*$")]
AnyText = Annotated[str, StringConstraints(max_length=_LONGEST_TEXT, pattern=r"^[^\x00]*$")]
EntityId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ENTITY_ID_LENGTH, pattern=r"^[^\x00-\x1f:]*$")]
Serial = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f:]{1,100}$")]


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_stamp, return_type=str, when_used="json")]
"""RFC 3339, UTC, whole seconds."""


def _rfc3339(value: object) -> object:
    """A moment from its text; numbers, which pydantic takes for seconds since 1970, are none here."""
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and _RFC3339.match(value):
            moment = datetime.fromisoformat(value.upper())
            return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("has to be a moment with its time zone, such as 2027-01-31T12:00:00Z")


When = Annotated[AwareDatetime, BeforeValidator(_rfc3339)]
"""A moment that comes in (RFC 3339)."""


class Body(BaseModel):
    """A JSON object; an unknown member of one that comes in is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sparse(Body):
    """A JSON object whose optional members are left out when there is nothing to say."""

    left_out: ClassVar[frozenset[str]] = frozenset()
    """The members that are left out when they are null; the others are null."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: Mapping[str, Any] = handler(self)
        return {name: value for name, value in values.items() if value is not None or name not in self.left_out}


class ErrorBody(Body):
    """Every refusal: a stable word, and a sentence that says what to change."""

    error: str
    message: str


# -- pages -------------------------------------------------------------------------------------------------------------
class PageQuery(Body):
    """Which part of what is found."""

    limit: int = Field(default=50, ge=1, le=PAGE_AT_MOST, description="How many at most.")
    offset: int = Field(
        default=0, ge=0, le=COUNTED_AT_MOST, description="How many to skip; for more, go on with `after`."
    )
    after: Text | None = Field(default=None, description="The cursor in the `Link` header of the page before.")


# -- one-time passwords ------------------------------------------------------------------------------------------------
class OtpGenerate(Body):
    """A one-time password to be made."""

    entity_id: EntityId = Field(description="Whom it is for: the user name that it is sent with.")
    ttl_seconds: int | None = Field(
        default=None, ge=1, le=TEN_YEARS_SECONDS, description="How long it is good for; absent: `[auth.otp] ttl`."
    )
    max_usage: int | None = Field(
        default=None, ge=1, le=MOST_USES, description="For how many certificates; absent: `[auth.otp] max_usage`."
    )
    label: AnyText | None = Field(
        default=None, description='The only label it is good at, `""` for the door without one; absent: at every one.'
    )
    subject_pattern: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN_LENGTH)] | None = Field(
        default=None,
        description="A regular expression that every name of the certificate has to match as a whole; `{id}` stands for"
        " the entity id.",
    )


OtpBatch = Annotated[list[OtpGenerate], Field(max_length=10_000)]


class Otp(Sparse):
    """A one-time password; the password itself is stored nowhere."""

    left_out = frozenset({"subject_pattern", "revoked_at"})

    id: str
    entity_id: str
    label: str | None
    expires_at: Moment
    max_usage: int
    usage_count: int
    created_at: Moment
    subject_pattern: str | None = None
    revoked_at: Moment | None = None


class OtpMade(Sparse):
    """A one-time password that was just made: the only time that the token is shown."""

    left_out = frozenset({"subject_pattern"})

    id: str
    token: str = Field(repr=False)
    entity_id: str
    expires_at: Moment
    max_usage: int
    label: str | None
    subject_pattern: str | None = None


class OtpQuery(PageQuery):
    """Which one-time passwords."""

    limit: int = Field(default=PAGE_AT_MOST, ge=1, le=PAGE_AT_MOST, description="How many at most.")
    entity_id: Text | None = Field(default=None, description="Only those of this entity.")
    all: bool = Field(default=False, description="Those that are used up, expired or withdrawn too.")


class OtpCleanup(Body):
    """Which ended one-time passwords to remove."""

    ended_before: When = Field(description="Those that expired or were withdrawn before this moment.")


class Removed(Body):
    """How many records were removed."""

    removed: int


# -- certificates ------------------------------------------------------------------------------------------------------
class Certificate(Body):
    """A certificate as a search shows it."""

    serial: str = Field(description="Hex, lower case, without leading zeros.")
    subject: str
    sans: list[str]
    ca_id: str
    label: str
    identity: str
    issued_at: Moment
    expires_at: Moment
    status: SearchStatus


class CertificateDetails(Certificate):
    """All that is known of a certificate."""

    pem: str
    key_algorithm: str
    revocation_reason: str | None = Field(description="The name in RFC 5280 5.3.1.")
    revoked_at: Moment | None
    not_before: Moment
    authenticator: str
    request_id: str


class CertificateFilters(Body):
    """What certificates have to meet, all of it."""

    ca_id: Text | None = None
    status: SearchStatus | None = None
    subject: Text | None = Field(
        default=None, description="A CN or SAN value as a whole, or the beginning of one with `*` at its end."
    )
    serial: Serial | None = Field(default=None, description="Hex; colons and leading zeros do not matter.")
    identity: Text | None = Field(default=None, description="The entity id that it was issued to.")
    label: AnyText | None = None
    expires_before: When | None = None
    expires_after: When | None = None


class CertificateSearch(CertificateFilters, PageQuery):
    """A search for certificates."""


class OfCa(Body):
    """Which CA is meant, where several have used the serial number."""

    ca_id: Text | None = None


class CertificateShown(OfCa):
    """How a certificate is shown."""

    format: Literal["json", "pem", "der", "chain"] | None = Field(
        default=None,
        description="`pem`, `der`, or `chain` (PEM up to the root); absent: by `Accept`, else JSON.",
    )


Reason = Annotated[
    int | str,
    WithJsonSchema({"enum": [value for each in RevocationReason for value in (each.value, each.name)]}),
    Field(description="0 to 6, 9 or 10, or the name in RFC 5280 5.3.1: `keyCompromise`, `certificateHold`, …"),
]


class Revocation(Body):
    """Why a certificate is revoked."""

    reason: Reason = 0


class BulkRevocation(Body):
    """Which certificates to revoke, and why."""

    query: CertificateFilters
    reason: Reason = 0
    dry_run: bool = Field(default=True, description="True: nothing is revoked, and the answer says what would be.")
    limit: int | None = Field(default=None, ge=1, description="How many at most; absent: all that are found.")


class BulkRevoked(Body):
    """What was revoked, or would be."""

    dry_run: bool
    count: int
    remaining: int = Field(description="How many `limit` has left.")
    sample: list[Certificate] = Field(description="The first of them.")


# -- lockouts ----------------------------------------------------------------------------------------------------------
class Lockout(Body):
    """Who gets 429 now."""

    scope: Literal["pair", "address"]
    address: str
    entity_id: str | None = Field(description="Null: the whole address.")
    locked_until: Moment


class LockoutLift(Body):
    """Whose lockout to end."""

    address: Text
    entity_id: Text | None = Field(default=None, description="Absent: that of the whole address.")


# -- waiting requests --------------------------------------------------------------------------------------------------
class RequestQuery(PageQuery):
    """Which requests."""

    state: Literal["waiting", "pending", "issued", "refused", "intent", "all"] = "waiting"


class WaitingRequest(Body):
    """A request that outlived its connection."""

    id: str
    state: RequestState
    operation: str
    label: str
    identity: str
    authenticator: str
    subject: str
    sans: list[str]
    key_algorithm: str
    reason: str = Field(description="Why it waits, or why it was refused.")
    ca_id: str | None = Field(description="The external CA that was asked; null: none.")
    ca_reference: str | None = Field(description="What that CA knows it by, as far as it has said so.")
    asked_at: Moment | None
    next_poll_at: Moment | None = Field(description="When kipuka asks the CA again.")
    held: bool = Field(description="Whether it was issued is unknown, and a person has to settle it.")
    source_address: str
    created_at: Moment
    decided_at: Moment | None


class TraceEntry(Body):
    """What one policy says."""

    policy: str
    verdict: Literal["allow", "deny", "wait"]
    reason: str


class WouldIssue(Body):
    """The certificate that an approval would bring now."""

    subject: str
    sans: list[str]
    key_usage: list[str]
    ext_key_usage: list[str]
    not_before: Moment
    not_after: Moment


class WaitingRequestDetails(WaitingRequest):
    """All that is known of a request, with what every policy says of it now."""

    csr_pem: str
    trace: list[TraceEntry]
    refusal: str | None = Field(description="Why an approval would be refused now; null: it would not be.")
    would_issue: WouldIssue | None
    certificate_pem: str | None


class Approved(Body):
    """The certificate that an approval brought."""

    state: Literal["issued", "pending"] = Field(description="`pending`: an external CA has it now, and decides.")
    serial: str | None
    pem: str | None


class Settlement(Body):
    """What became of a request at an external CA."""

    certificate: Annotated[str, StringConstraints(max_length=65536)] | None = Field(
        description="PEM: this was issued. Null: nothing was."
    )


class Rejection(Body):
    """Why a request is rejected."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=MAX_REASON_LENGTH)] = Field(
        default="an administrator has rejected this request", description="The client is told."
    )


# -- audit -------------------------------------------------------------------------------------------------------------
class AuditQuery(PageQuery):
    """Which audit facts."""

    event: Text | None = Field(default=None, description="The name, such as `certificate_issued`.")
    actor: Text | None = Field(default=None, description="Who did it.")
    target: Text | None = Field(
        default=None,
        description="What it was done to: a serial number, a subject, an entity id, the id of a one-time password or"
        " of a request.",
    )
    since: When | None = Field(default=None, description="Not before this moment.")
    until: When | None = Field(default=None, description="Before this moment.")


class Event(BaseModel):
    """An audit fact; further members depend on the event."""

    model_config = ConfigDict(extra="allow")

    event: str
    time: str


class Audit(Body):
    """Audit facts, newest first."""

    events: list[Event]
    total: int


# -- what is there -----------------------------------------------------------------------------------------------------
class PartHealth(BaseModel):
    """Whether one part works."""

    model_config = ConfigDict(extra="allow")

    status: HealthStatus
    detail: str
    latency_ms: float


class Health(BaseModel):
    """Whether the server works, and what somebody should change."""

    status: HealthStatus
    version: str
    uptime_secs: int
    database: PartHealth
    hsm: dict[str, Any] | None
    ca_count: int
    healthy_ca_count: int
    warnings: list[str]


class Ca(BaseModel):
    """A certification authority."""

    model_config = ConfigDict(extra="allow")

    id: str
    is_default: bool
    key_type: str | None
    hash_algorithm: str | None
    validity_days: int | None
    health: HealthStatus
    hsm_backed: bool | None


class Plugin(BaseModel):
    """A provider that is installed."""

    name: str
    distribution: str
    version: str
    api_version: int | None
    kind: str | None
    enabled: bool
    status: str
    table: str | None
    settings: list[str]
    problem: str | None
