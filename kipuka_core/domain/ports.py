"""The ports: what plugins implement, and what the core asks of its store.

Every port is an abstract base with defaults where a default is safe, so that a plugin is only what it decides. All
methods are coroutines and are called under ``[plugins] timeout``; an exception, a late or a wrongly typed answer is a
refusal (fail closed). Every port may offer ``ping()``, which raises when the thing behind it does not work.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

from cryptography import x509

from kipuka_core.domain.ca_ports import Signer
from kipuka_core.domain.port import Port
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.audit_chain import AuditHead
from kipuka_core.model.certificate import CsrAttributes, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import Event
from kipuka_core.model.identity import ClientIdentity, Offer
from kipuka_core.model.label import Label
from kipuka_core.model.record import OneTimePassword, RecordedCertificate, Reservation, StoredRequest
from kipuka_core.model.request import Csr
from kipuka_core.model.revocation import RevocationAnswer
from kipuka_core.model.verdict import Allow, Verdict, Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class LockoutLimits:
    """How many wrong secrets are too many (``[auth.otp]``)."""

    max_failures: int = 5
    failure_window_seconds: int = 900
    lockout_seconds: int = 1800
    address_failures: int = 300


class Authenticator(Port):
    """Who is asking (RFC 7030 3.2.3, 3.3.2)."""

    lockout_limits: LockoutLimits | None = None
    """How many wrong secrets are too many; the first configured authenticator that says so decides for all."""

    @abstractmethod
    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        """Say who made this offer, or None for "not mine" (also for a user name that is unknown here).

        Raises :class:`~kipuka_core.errors.WrongSecret` for a known name with a wrong secret: nobody else is asked,
        the client gets 401, and the failure is counted once.
        """


class Policy(Port):
    """What may be asked? Every configured policy shapes every template and then judges the final one."""

    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        """Return the template as this policy wants it (``dataclasses.replace``), or the same one."""
        return template

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Judge the final template. Deny outweighs Wait, Wait outweighs Allow."""
        return Allow()

    async def advertise(self, label: Label) -> CsrAttributes:
        """Say what a CSR for this label should hold (RFC 7030 4.5), derived from what :meth:`decide` demands."""
        return CsrAttributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHealth:
    """A token in which keys live. ``problem`` is empty while all of the wanted sessions are open."""

    name: str
    sessions: int
    sessions_open: int
    problem: str = ""


class KeyStore(Port):
    """Where keys live. One per URI scheme."""

    schemes: ClassVar[tuple[str, ...]] = ()
    """The URI schemes this store serves; a URI without a scheme is ``file``."""

    @abstractmethod
    async def signer(self, key_uri: str) -> Signer:
        """Open a private key.

        Raises :class:`~kipuka_core.errors.ConfigurationError` when it cannot be found, read or unlocked.
        """

    async def generate(self, key_uri: str, key_type: str) -> Signer:
        """Make a key at ``key_uri``.

        Raises :class:`~kipuka_core.errors.ConfigurationError` where this store cannot; that is the default.
        """
        raise ConfigurationError(key_uri, f"{type(self).__name__} cannot generate keys ({key_type})")

    async def tokens(self) -> Sequence[TokenHealth]:
        """The tokens that keys of this store live in, as they are now; none for a store without tokens."""
        return ()


class EventSink(Port):
    """Where audit facts go besides the store."""

    @abstractmethod
    async def emit(self, event: Event) -> None:
        """Return when the event is safe; raise when it is not. A required sink that raises stops issuance."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Paths of a listener's certificate and key (PEM), and the password of the key."""

    certificate_file: str
    key_file: str
    key_password: bytes | None = field(default=None, repr=False)
    is_stand_in: bool = False
    """True: only a dry run sees it, in place of one that the next start would make; it is not judged."""


class TlsMaterial(Port):
    """A listener's certificate, and whom it trusts."""

    @abstractmethod
    async def server_identity(self) -> ServerIdentity:
        """The certificate chain and key to serve with. Asked again on reload."""

    async def upkeep(self) -> bool:
        """Renew what is due. True when :meth:`server_identity` has something new, which is then served.

        Called every few seconds in every process of the server, so the usual answer has to be quick. The default is
        for material that changes only when the operator says so (``kipuka reload``).
        """
        return False


class RevocationSource(Protocol):
    """What the world outside says about a certificate (``[revocation]``)."""

    async def status_of(self, chain: Sequence[x509.Certificate], now: datetime) -> RevocationAnswer:
        """The worst status in a verified chain, leaf first, anchor last; the anchor itself is not asked about.

        Never raises: what cannot be found out is ``unknown``.
        """
        ...


class CsrReader(Protocol):
    """The wire room as the road needs it; pure and synchronous."""

    def decode(self, body: bytes) -> Csr:
        """Bytes of a request body to a CSR. Raises Malformed or CsrRefused."""
        ...

    def verify_possession(self, csr: Csr) -> None:
        """The CSR is signed by the key it asks a certificate for (RFC 7030 3.4). Raises CsrRefused."""
        ...

    def verify_binding(self, csr: Csr, label: Label, offer: Offer) -> None:
        """The channel binding of RFC 7030 3.5 as the label wants it. Raises CsrRefused."""
        ...


class Records(Protocol):
    """What plugins can ask of the store: they look, and change nothing but the end of an audit file's chain.

    Every method raises :class:`~kipuka_core.errors.StoreUnavailable` when the database does not answer.
    """

    async def find_certificate(self, issuer_key_id: str, serial_hex: str) -> RecordedCertificate | None:
        """The record of one certificate, or None."""
        ...

    async def search_certificates(
        self,
        *,
        serial_hex: str | None = None,
        subject: str | None = None,
        entity_id: str | None = None,
        status: str | None = None,
        limit: int = 50,
    ) -> Sequence[RecordedCertificate]:
        """Newest first. ``subject`` is a CN or SAN, or a prefix ``x*``; ``entity_id`` is whom it was issued to.

        ``status`` is ``active``, ``revoked`` or ``expired``.
        """
        ...

    async def find_otp(self, token_hash: bytes) -> OneTimePassword | None:
        """Look a one-time password up by the hash of its token."""
        ...

    async def knows_otp_entity(self, entity_id: str) -> bool:
        """Whether any one-time password was ever made for this entity."""
        ...

    def anchor(self, head: AuditHead) -> None:
        """Record how far a chain of an audit file has come: with the next write, or soon after where there is none.

        Never waits and never raises. While the database is away the newest head of each chain is kept.
        """
        ...

    async def ping(self) -> None:
        """Raise when the database does not answer."""
        ...


class Store(Records, Protocol):
    """The durable memory. Every write returns after it is on disk (invariant 2).

    Every method raises :class:`~kipuka_core.errors.StoreUnavailable` when the database does not answer.
    """

    # -- one road --------------------------------------------------------------------------------------------------
    async def find_request(self, key: str) -> StoredRequest | None:
        """The newest remembered request with this key, or None when there is none or it is over and done.

        An issued one is over ten minutes after its certificate was first fetched.
        """
        ...

    async def reserve(
        self, otp_id: str, *, request_id: str, label: str, csr_fingerprint: str, now: datetime, lease_seconds: int
    ) -> Reservation:
        """Reserve one use of a one-time password for a request (invariant 5)."""
        ...

    async def release(self, request_id: str) -> None:
        """Give a reservation back; nothing happens when there is none."""
        ...

    async def replayable(self, otp_id: str, csr_fingerprint: str, since: datetime) -> RecordedCertificate | None:
        """The certificate that this password got for this very CSR, when it was issued after ``since``."""
        ...

    async def remember(self, request: StoredRequest, event: Event | None = None) -> StoredRequest:
        """Record an intent or a waiting request; a reservation of the same request id stays past its lease.

        Two identical requests at once become one row: the row that was first is returned.
        """
        ...

    async def note_pending(
        self,
        request_id: str,
        wait: Wait,
        *,
        next_poll_at: datetime,
        retry_after_seconds: int,
        event: Event | None = None,
    ) -> None:
        """The CA has the request, and ``wait.reference`` is what it knows it by; its reservation is kept.

        ``event``: the client is sent away with 202.
        """
        ...

    async def forget_refused(self, request_id: str) -> bool:
        """Forget a request that was refused, so that the same may be asked anew; False when there is no such one."""
        ...

    async def keep_answer(self, request_id: str, certificate_der: bytes) -> None:
        """The certificate that a CA has issued for a request, before anything else is done with it."""
        ...

    async def poll_at(self, request_id: str, moment: datetime | None, event: Event | None = None) -> None:
        """When somebody shall look what has become of a request at a CA; None: a person has to."""
        ...

    async def claim_polls(self, now: datetime, lease: timedelta, at_most: int) -> Sequence[StoredRequest]:
        """The requests at CAs that somebody has to look after now; nobody else does before the lease has ended."""
        ...

    async def withdraw_intent(self, request_id: str) -> None:
        """Forget an intent that came to nothing: the CA did not issue. One that had waited before waits again."""
        ...

    async def commit(self, record: RecordedCertificate, event: Event) -> None:
        """Record a certificate, use up the reservation of its request, close its remembered request: one transaction.

        Raises :class:`ReservationLost` when the request had reserved a password and the reservation is gone, and
        :class:`AlreadyIssued` for an issuer and serial that are taken. Nothing is recorded then.
        """
        ...

    async def decide_request(self, request_id: str, *, refused_because: str, event: Event) -> None:
        """Close a waiting request as refused and release its reservation."""
        ...

    async def get_request(self, request_id: str) -> StoredRequest | None:
        """One remembered request by its id."""
        ...

    async def mark_fetched(self, request_id: str, now: datetime) -> None:
        """The client has fetched the certificate of this remembered request; it may again for ten minutes."""
        ...

    # -- certificates ----------------------------------------------------------------------------------------------
    async def revoke_certificate(
        self, issuer_key_id: str, serial_hex: str, *, reason: int, now: datetime, event: Event
    ) -> bool:
        """Mark a certificate revoked; False when there is no such record."""
        ...

    # -- one-time passwords ----------------------------------------------------------------------------------------
    async def add_otp(self, otp: OneTimePassword, event: Event) -> None:
        """Record a new one-time password."""
        ...

    async def list_otps(self) -> Sequence[OneTimePassword]:
        """All of them, newest first."""
        ...

    async def revoke_otp(self, otp_id: str, *, now: datetime, event: Event) -> bool:
        """Withdraw a one-time password; False when there is no such id."""
        ...

    # -- lockout ---------------------------------------------------------------------------------------------------
    async def locked_until(self, address: str, entity_id: str, now: datetime) -> datetime | None:
        """Until when this pair (or the whole address) is locked out, or None."""
        ...

    async def count_failure(
        self, address: str, entity_id: str, *, limits: LockoutLimits, now: datetime
    ) -> datetime | None:
        """Count one wrong secret; returns the end of the lockout when this one was the last straw."""
        ...

    # -- events ----------------------------------------------------------------------------------------------------
    async def add_event(self, event: Event) -> None:
        """Record an audit fact."""
        ...

    async def audit_heads(self) -> Sequence[AuditHead]:
        """The end of every chain, oldest first."""
        ...


class EventHub(Protocol):
    """Where the core announces audit facts."""

    async def announce(self, event: Event) -> None:
        """Tell the log and the sinks.

        Raises :class:`~kipuka_core.errors.Unavailable` when a required sink failed: then nothing may be issued.
        """
        ...

    async def emit(self, event: Event) -> None:
        """Tell log, sinks and store. Never raises: for facts that are true whether or not they can be written down."""
        ...


class ReservationLost(Exception):
    """The reservation of a request is not there any more (its lease ran out, or the password was revoked)."""


class AlreadyIssued(Exception):
    """The store has a certificate of this issuer with this serial."""
