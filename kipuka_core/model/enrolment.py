"""One request for one certificate, on its way down the road."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from kipuka_core.model.identity import BasicCredentials, ClientIdentity
from kipuka_core.model.label import Label
from kipuka_core.model.request import Connection, Csr, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRequest:
    """simpleenroll or simplereenroll as the HTTP edge hands it over: routed, sized, of the right media type."""

    request_id: str
    operation: Operation
    label: Label
    connection: Connection
    credentials: BasicCredentials | None
    body: bytes = field(repr=False)
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A request whose client is authenticated and whose CSR is proven, as policies see it: who, what, where, when."""

    request_id: str
    operation: Operation
    label: Label
    identity: ClientIdentity
    csr: Csr
    connection: Connection
    time: datetime
    """The present moment, UTC, when the request is judged: of one that a person approves later, then. For rules about
    dates; a test sets it as it likes."""
    renewing: x509.Certificate | None = None
    """The certificate being renewed (simplereenroll), already checked by the renewal rule."""
