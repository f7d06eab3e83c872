"""A road in this process: real store, real wire room, a CA in memory, and whatever ports a test brings."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from kipuka_core.domain.approval import Approvals
from kipuka_core.domain.authenticate import Authentication
from kipuka_core.domain.ca_choice import CaChoice
from kipuka_core.domain.ca_groups import CaGroup
from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.issuance import Issuance
from kipuka_core.domain.judge import Judge, NamedPolicy
from kipuka_core.domain.one_time_passwords import hash_token
from kipuka_core.domain.pipeline import Road
from kipuka_core.domain.ports import Authenticator, EventSink, LockoutLimits, Policy
from kipuka_core.domain.remembered import RememberedRequests
from kipuka_core.domain.renewal import RenewalRule
from kipuka_core.domain.reservations import Reservations
from kipuka_core.edges.events import ConfiguredSink, Events
from kipuka_core.edges.store import SqlStore
from kipuka_core.model.certificate import Approved, CaChain, Issued
from kipuka_core.model.enrolment import EnrolRequest
from kipuka_core.model.event import Event, OtpCreated
from kipuka_core.model.identity import BasicCredentials, ClientIdentity, Offer, OneTimeCredential
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.label import EnrollmentRules, Label
from kipuka_core.model.names import held_names
from kipuka_core.model.record import OneTimePassword
from kipuka_core.model.request import Connection, Operation
from kipuka_core.model.verdict import Wait
from kipuka_core.testing.pki import Authority, make_csr
from kipuka_core.wire.reader import WireReader


class MemoryCa(CaBackend):
    """Signs what it is given; ``tamper`` lets a test spoil the builder's input."""

    external: ClassVar[bool] = False

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.issued: list[x509.Certificate] = []

    async def chain(self) -> CaChain:
        return CaChain(certificates=self.authority.chain)

    async def issue(self, approved: Approved) -> Issued | Wait:
        certificate = self.sign(approved)
        self.issued.append(certificate)
        return Issued(certificate)

    def sign(self, approved: Approved, **changes: Any) -> x509.Certificate:
        template = approved.template
        values: dict[str, Any] = {name: getattr(template, name) for name in template.__dataclass_fields__} | changes
        public_key = cast("Any", serialization.load_der_public_key(values["spki_der"]))
        builder = (
            x509.CertificateBuilder()
            .subject_name(values["subject"])
            .issuer_name(self.authority.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(values["not_before"])
            .not_valid_after(values["not_after"])
            .add_extension(x509.BasicConstraints(ca=changes.get("ca", False), path_length=None), critical=True)
            .add_extension(key_usage_extension(values["key_usage"]), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in values["ext_key_usage"]]), critical=False
            )
        )
        if values["san"]:
            critical = not values["subject"].rdns  # RFC 5280 4.1.2.6
            builder = builder.add_extension(x509.SubjectAlternativeName(values["san"]), critical=critical)
        for extension in values["extensions"]:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        return builder.sign(changes.get("key", self.authority.key), hashes.SHA256())


class ByPassword(Authenticator):
    """Believes ``entity:token`` for tokens in the store, and any client certificate."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        certificate = offer.connection.client_certificate
        if certificate is not None:
            names = held_names(certificate)
            return ClientIdentity(authenticator="test", entity_id="device", names=names, certificate=certificate)
        if offer.credentials is None:
            return None
        otp = await self.store.find_otp(hash_token(offer.credentials.password))
        if otp is None:
            return None
        return ClientIdentity(authenticator="test", entity_id=otp.entity_id, one_time=OneTimeCredential(otp.id))


class ListSink(EventSink):
    """Remembers events; fails when told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False

    async def emit(self, event: Event) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.events.append(event)


class AllowAll(Policy):
    """The most permissive policy there can be."""


def _label(name: str, **fields: Any) -> Label:
    rules = EnrollmentRules(**fields.pop("rules", {}))
    values: dict[str, Any] = {"ca_id": "default", "auth_order": (("test",),)} | fields
    return Label(name=name, rules=rules, **values)


@dataclass
class Harness:
    """A road and everything that a test may want to look at."""

    store: SqlStore
    ca: MemoryCa
    sink: ListSink
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    policies: list[NamedPolicy] = field(default_factory=lambda: [NamedPolicy("allow-all", AllowAll())])
    labels: dict[str, Label] = field(default_factory=lambda: {"": _label("")})
    authenticators: dict[str, Authenticator] = field(default_factory=dict)
    timeout_seconds: float = 5.0
    accept_unrecorded: bool = False
    more_cas: dict[str, CaBackend] = field(default_factory=dict)
    groups: dict[str, CaGroup] = field(default_factory=dict)

    def label(self, name: str = "", **fields: Any) -> Label:
        """Define a label (``rules={…}`` are its enrollment rules)."""
        self.labels[name] = _label(name, **fields)
        return self.labels[name]

    @property
    def events(self) -> Events:
        return Events([ConfiguredSink("list", self.sink, required=True)], self.store, self.guard)

    @property
    def guard(self) -> Guard:
        return Guard(self.timeout_seconds)

    @property
    def road(self) -> Road:
        cas = {"default": self.ca, **self.more_cas}
        return Road(
            authentication=Authentication(
                authenticators=self.authenticators or {"test": ByPassword(self.store)},
                guard=self.guard,
                store=self.store,
                events=self.events,
                limits=LockoutLimits(),
            ),
            reader=WireReader(),
            remembered=RememberedRequests(self.store, self.events),
            reservations=Reservations(self.store, self.events, lease_seconds=60),
            renewal=RenewalRule(self.store, accept_unrecorded=self.accept_unrecorded),
            judge=Judge(self.policies, self.guard),
            issuance=Issuance(cas, self.guard, self.store, self.events),
            cas=cas,
            choice=CaChoice(cas=cas, guard=self.guard, groups=self.groups),
            guard=self.guard,
        )

    @property
    def approvals(self) -> Approvals:
        return Approvals(road=self.road, store=self.store, events=self.events, labels=self.labels)

    async def otp(self, entity_id: str = "device", **fields: Any) -> str:
        """A one-time password in the store; the token."""
        token = os.urandom(16).hex()
        values: dict[str, Any] = {"label": None, "max_usage": 1, "expires_at": self.now + timedelta(days=1)}
        otp = OneTimePassword(
            id=os.urandom(8).hex(),
            token_hash=hash_token(token),
            entity_id=entity_id,
            created_at=self.now,
            **(values | fields),
        )
        event = OtpCreated(time=self.now, otp_id=otp.id, entity_id=entity_id, expires_at="")
        await self.store.add_otp(otp, event)
        return token

    def request(
        self,
        csr_der: bytes | None = None,
        *,
        token: str | None = None,
        chain: Sequence[x509.Certificate] = (),
        operation: Operation = Operation.SIMPLEENROLL,
        label: str = "",
    ) -> EnrolRequest:
        """A request as the HTTP edge would hand it over."""
        return EnrolRequest(
            request_id=os.urandom(8).hex(),
            operation=operation,
            label=self.labels[label],
            connection=Connection("192.0.2.7", "TLSv1.3", tuple(chain), lambda: b"binding"),
            credentials=None if token is None else BasicCredentials("device", token),
            body=base64.b64encode(csr_der or make_csr()),
            time=self.now,
        )

    async def enrol(self, csr_der: bytes | None = None, **fields: Any) -> x509.Certificate:
        """Go down the road and expect a certificate."""
        outcome = await self.road.enrol(self.request(csr_der, **fields))
        assert isinstance(outcome, Issued)
        return outcome.certificate

    async def uses(self, token: str) -> int:
        """How often a one-time password has been used up."""
        otp = await self.store.find_otp(hash_token(token))
        assert otp is not None
        return otp.usage_count

    async def record_count(self) -> int:
        """How many certificates the store knows."""
        return len(await self.store.search_certificates(limit=1000))
