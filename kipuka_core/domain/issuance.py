"""From an approved template to a recorded certificate: sign, check, announce, record; in this order and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.external import ExternalCas, ca_away
from kipuka_core.domain.facts import enrolment_facts
from kipuka_core.domain.guard import Guard, called
from kipuka_core.domain.meter import Meter
from kipuka_core.domain.ports import AlreadyIssued, EventHub, ReservationLost, Store
from kipuka_core.domain.postcheck import check_issued
from kipuka_core.domain.renewal import issued_by
from kipuka_core.errors import CaAway, OutcomeUnknown, PluginFailed, PostcheckFailed, RequestRefused, Unavailable
from kipuka_core.model.certificate import Approved, CaChain, Issued
from kipuka_core.model.event import CertificateIssued
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.names import san_entry
from kipuka_core.model.record import RecordedCertificate
from kipuka_core.model.verdict import Wait


@dataclass(frozen=True, slots=True)
class Issuance:
    """Has approved templates signed and remembers what was signed (invariant 2)."""

    cas: Mapping[str, CaBackend]
    guard: Guard
    store: Store
    events: EventHub
    meter: Meter = field(default_factory=Meter)

    @property
    def external(self) -> ExternalCas:
        """What is different about CAs outside this process."""
        return ExternalCas(cas=self.cas, guard=self.guard, store=self.store, events=self.events)

    async def issue(self, approved: Approved, *, operation: str = "", is_last: bool = True) -> Issued | Wait:
        """Return the certificate once its record is durable, or the CA's Wait, which is on record then too.

        ``operation`` is for the event, where it is not the enrolment's. ``is_last``: no other CA is asked when this one
        is away.

        Raises CaAway, PluginFailed, PostcheckFailed or Unavailable; then nothing was recorded and nothing may leave.
        """
        ca_id = approved.enrolment.label.ca_id
        backend = self.cas[ca_id]
        template = replace(approved.template)  # what was judged, out of the backend's reach
        outcome: Issued | Wait
        try:
            with self.meter.timed("sign"):
                if backend.external:
                    outcome = await self.external.ask(approved, forgets=is_last)
                else:
                    outcome = await self._sign(ca_id, approved)
        except RequestRefused as refusal:
            self.meter.ca_answered(ca_id, _said(refusal))
            raise
        if isinstance(outcome, Wait):
            self.meter.ca_answered(ca_id, "waiting")
            return outcome
        self.meter.ca_answered(ca_id, "issued")
        return await self.finish(outcome, replace(approved, template=template), operation=operation)

    async def _sign(self, ca_id: str, approved: Approved) -> Issued:
        try:
            return await self.guard.call(ca_id, self.cas[ca_id].issue, approved, expect=Issued)
        except Unavailable as error:
            raise ca_away(error) from error

    async def finish(self, issued: Issued, approved: Approved, *, operation: str = "", discards: bool = True) -> Issued:
        """Check what came back, announce and record it. Raises as :meth:`issue`.

        ``discards``: a certificate of an external CA that cannot be used is revoked there, where that is possible, and
        its request is closed.
        """
        backend = self.cas[approved.enrolment.label.ca_id]
        issuer = await self._issuer(issued.certificate, approved)
        try:
            check_issued(
                issued.certificate,
                approved.template,
                issuer,
                pointers=backend.pointers,
                profile=backend.may_set,
            )
            await self._record(issued.certificate, approved, issuer, operation)
        except (PostcheckFailed, _NotRecorded) as error:
            if backend.external and discards:
                await self.external.discard(issued.certificate, approved, error)
            if isinstance(error, _NotRecorded):
                raise error.refusal from error.__cause__
            error.plugin = f"CA {approved.enrolment.label.ca_id}, {called(backend.issue)}"
            raise
        return issued

    async def _issuer(self, certificate: x509.Certificate, approved: Approved) -> x509.Certificate:
        """Whose it is said to be: an external CA may have more than one issuer, or a new one since it was asked."""
        enrolment = approved.enrolment
        backend = self.cas[enrolment.label.ca_id]
        if not backend.external or issued_by(approved.issuer, certificate):
            return approved.issuer
        chain = await self.guard.call(enrolment.label.ca_id, backend.chain, expect=CaChain)
        issuers = (chain.issuing, *chain.previous)
        return next((each for each in issuers if issued_by(each, certificate)), approved.issuer)

    async def _record(
        self, certificate: x509.Certificate, approved: Approved, issuer: x509.Certificate, operation: str
    ) -> None:
        event = _issued_event(certificate, approved, operation)
        with self.meter.timed("announce"):
            await self.events.announce(event)
        try:
            with self.meter.timed("record"):
                await self.store.commit(_record(certificate, approved, issuer), event)
        except (ReservationLost, AlreadyIssued) as error:
            if await self._is_recorded(certificate, approved, issuer):
                return  # another process has found it too, and was faster
            if isinstance(error, AlreadyIssued):
                raise PostcheckFailed("its serial number is taken") from error
            raise _NotRecorded(
                Unavailable(
                    "the one-time password was withdrawn or its reservation ran out; repeat the request",
                    retry_after_seconds=5,
                    code="reservation_lost",
                )
            ) from error
        self.meter.issued(event, by_one_time_password=approved.enrolment.identity.one_time is not None)

    async def _is_recorded(self, certificate: x509.Certificate, approved: Approved, issuer: x509.Certificate) -> bool:
        """Whether this very certificate is on record, for this very request."""
        record = await self.store.find_certificate(issuer_key_id(issuer), serial_hex(certificate))
        return (
            record is not None
            and record.request_id == approved.enrolment.request_id
            and record.certificate_der == certificate.public_bytes(serialization.Encoding.DER)
        )


class _NotRecorded(Exception):
    """The certificate is right, and there is no place for it."""

    def __init__(self, refusal: Unavailable) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def _said(refusal: RequestRefused) -> str:
    if isinstance(refusal, CaAway):
        return "away"
    is_unknown = isinstance(refusal, PluginFailed) or refusal.code == OutcomeUnknown.code
    return "unknown" if is_unknown else "refused"


def _record(certificate: x509.Certificate, approved: Approved, issuer: x509.Certificate) -> RecordedCertificate:
    enrolment, template = approved.enrolment, approved.template
    one_time = enrolment.identity.one_time
    return RecordedCertificate(
        issuer_key_id=issuer_key_id(issuer),
        serial_hex=serial_hex(certificate),
        ca_id=enrolment.label.ca_id,
        label=enrolment.label.name,
        entity_id=enrolment.identity.entity_id,
        subject=template.subject.rfc4514_string(),
        sans=tuple(map(san_entry, template.san)),
        key_type=_key_type(approved),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issued_at=enrolment.time,
        certificate_der=certificate.public_bytes(serialization.Encoding.DER),
        request_id=enrolment.request_id,
        authenticator=enrolment.identity.authenticator,
        otp_id=one_time.otp_id if one_time else None,
        csr_fingerprint=enrolment.csr.fingerprint,
    )


def _key_type(approved: Approved) -> str:
    public_key = approved.enrolment.csr.public_key
    return key_type_of(public_key) or describe_key(public_key)


def _issued_event(certificate: x509.Certificate, approved: Approved, operation: str) -> CertificateIssued:
    enrolment = approved.enrolment
    return CertificateIssued(
        **enrolment_facts(enrolment) | ({"operation": operation} if operation else {}),
        ca_id=enrolment.label.ca_id,
        serial=serial_hex(certificate),
        subject=approved.template.subject.rfc4514_string(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        key_type=_key_type(approved),
    )
