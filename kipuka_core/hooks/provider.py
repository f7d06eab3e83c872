"""What a plugin hands over: how to make a port from settings, and what the making may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from pydantic import BaseModel, ConfigDict

from kipuka_core.domain.ca_ports import RunBlocking, Signer
from kipuka_core.domain.ports import Records
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.event import Event
from kipuka_core.model.label import Label

PortT_co = TypeVar("PortT_co", covariant=True)


class Settings(BaseModel):
    """Base of every plugin's settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IssueServerCertificate(Protocol):
    """Has a CA of this server issue a certificate for a TLS server: for providers of TLS material.

    It carries serverAuth and id-kp-cmcRA (RFC 7030 3.6.1, RFC 6402 2.10) and nothing that a caller could add. It is
    checked, announced and recorded as every certificate is, and durable before it is returned.
    """

    def __call__(
        self,
        key: CertificateIssuerPrivateKeyTypes,
        names: Sequence[x509.GeneralName],
        *,
        validity: timedelta,
        ca_id: str | None = None,
    ) -> Awaitable[tuple[x509.Certificate, ...]]:
        """The certificate for ``key`` and ``names`` (DNS names and IP addresses), then its intermediates, no root.

        ``validity`` is shortened to what the CA can give. ``ca_id`` None: the default CA. In a dry run the certificate
        is not issued but signed with ``key`` itself, good only to be looked at. Raises ConfigurationError for a CA that
        is not there, has ended or does not issue at once, other KipukaErrors where it is away or misbehaves.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the core lends to plugins when they are opened."""

    store: Records
    """What is on record. A plugin can look, and change nothing."""
    clock: Callable[[], datetime]
    """The present moment, aware, UTC."""
    run_blocking: RunBlocking
    """``await run_blocking(function, …)`` calls a function that blocks in a worker thread, and returns what it returns.
    Raises Unavailable when too much is waiting already."""
    open_signer: Callable[[str], Awaitable[Signer]]
    """Opens a CA key by its URI through the key stores."""
    base_dir: Path
    """Relative paths in settings are relative to this directory (that of ``kipuka.toml``)."""
    state_dir: Path
    labels: Sequence[Label]
    client_anchors: Sequence[x509.Certificate]
    """``[tls.client_auth] trust_anchors``, as they are now: SIGHUP reads them again."""
    own_issuers: Callable[[], Sequence[x509.Certificate]]
    """Every certificate of the own CAs, previous generations included."""
    ca_chain: Callable[[str | None], Awaitable[CaChain]]
    """The certificates of an own CA as they are now; None: of the default one. Only once the CAs are open."""
    issue_server_certificate: IssueServerCertificate
    """Only once the CAs are open: TLS material opens after them."""
    dry_run: bool
    """True in ``kipuka check`` and other commands that only look: read and check, change nothing."""
    call_timeout_seconds: float
    """``[plugins] timeout``: a call into a port that takes longer is a refusal, whatever it would have answered."""
    accept_unrecorded: bool
    """``[revocation] accept_unrecorded``: certificates of own CAs count although the store does not know them."""
    strict_permissions: bool
    emit: Callable[[Event], Awaitable[None]]
    """Tells log, sinks and store an audit fact. Never raises."""
    warn: Callable[[str], None]
    """Says something that the operator should change; shown at start-up, by ``kipuka check`` and on health pages."""


@dataclass(frozen=True)  # with slots, Provider[Policy](…) is a TypeError of CPython 3.11's
class Provider(Generic[PortT_co]):
    """One way to fill a port. ``name`` is the word after ``use =`` (or ``backend =``, a URI scheme, …).

    ``open`` gets the validated settings and the services, and does all I/O of starting and stopping: an async context
    manager whose value is the port.
    """

    name: str
    settings: type[BaseModel]
    open: Callable[[Any, Services], AbstractAsyncContextManager[PortT_co]]
