"""What a connection offers as proof, and whom we believe it to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from kipuka_core.model.label import Label
from kipuka_core.model.request import Connection, Csr, Operation


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """HTTP Basic (RFC 7617): the user name may be empty (RFC 7030 3.2.3)."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Everything that an authenticator may look at."""

    operation: Operation
    label: Label
    connection: Connection
    credentials: BasicCredentials | None
    read_csr: Callable[[], Csr] = field(repr=False)
    """Decodes the CSR, once. Only for authenticators that need it: raises Malformed like the later step would."""
    time: datetime


@dataclass(frozen=True, slots=True)
class OneTimeCredential:
    """A credential that an issued certificate uses up; the core reserves and consumes it (invariant 5)."""

    otp_id: str
    subject_pattern: str | None = None
    """A regular expression for whole names, where ``{id}`` stands for the entity id: what the password was made for.
    Every name of the certificate has to match it (policy ``names``). None: the label's binding alone decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdentity:
    """Whom an authenticator believes the client to be."""

    authenticator: str
    entity_id: str
    """The name that this deployment knows the device by. Holds no colon."""
    names: frozenset[str] = frozenset()
    """Further names that the identity holds besides ``entity_id``, as ``kind:value`` (``dns:a.example``, ``ip:…``,
    ``uri:…``, ``email:…``, ``cn:…``); see :func:`kipuka_core.model.names.held_names`."""
    certificate: x509.Certificate | None = None
    """The client certificate, when that is what the identity rests on."""
    one_time: OneTimeCredential | None = None
