"""From an approved template to a recorded certificate: sign, check, announce, record; in this order and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.facts import enrolment_facts
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.meter import Meter
from kipuka_core.domain.ports import AlreadyIssued, EventHub, ReservationLost, Store
from kipuka_core.domain.postcheck import check_issued
from kipuka_core.domain.remembered import stored_request
from kipuka_core.errors import PluginFailed, PostcheckFailed, RequestRefused, Unavailable
from kipuka_core.model.certificate import Approved, Issued
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import CertificateIssued
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.names import san_entry
from kipuka_core.model.record import RecordedCertificate, RequestState
from kipuka_core.model.verdict import Wait

_OUTCOMES: tuple[type[Issued | Wait], ...] = (Issued, Wait)


@dataclass(frozen=True, slots=True)
class Issuance:
    """Has approved templates signed and remembers what was signed (invariant 2)."""

    cas: Mapping[str, CaBackend]
    guard: Guard
    store: Store
    events: EventHub
    meter: Meter = field(default_factory=Meter)

    async def issue(self, approved: Approved, *, operation: str = "") -> Issued | Wait:
        """Return the certificate once its record is durable, or the CA's Wait.

        ``operation`` is for the event, where it is not the enrolment's.

        Raises PluginFailed, PostcheckFailed or Unavailable; then nothing was recorded and nothing may leave.
        """
        enrolment = approved.enrolment
        ca_id = enrolment.label.ca_id
        backend = self.cas[ca_id]
        template = replace(approved.template)  # what was judged, out of the backend's reach
        if backend.external:
            await self._intend(enrolment)
        try:
            with self.meter.timed("sign"):
                outcome: Issued | Wait = await self.guard.call(ca_id, backend.issue, approved, expect=_OUTCOMES)
        except PluginFailed:
            raise  # an external CA may have issued all the same: its intent stays, and nobody asks it again
        except RequestRefused:
            if backend.external:
                await self.store.withdraw_intent(enrolment.request_id)
            raise
        if isinstance(outcome, Wait):
            return outcome
        check_issued(outcome.certificate, template, approved.issuer, pointers=backend.pointers)
        event = _issued_event(outcome.certificate, approved, operation)
        with self.meter.timed("announce"):
            await self.events.announce(event)
        try:
            with self.meter.timed("record"):
                await self.store.commit(_record(outcome.certificate, approved), event)
        except ReservationLost:
            raise Unavailable(
                "the one-time password was withdrawn or its reservation ran out; repeat the request",
                retry_after_seconds=5,
                code="reservation_lost",
            ) from None
        except AlreadyIssued as error:
            raise PostcheckFailed("its serial number is taken") from error
        self.meter.issued(event, by_one_time_password=enrolment.identity.one_time is not None)
        return outcome

    async def _intend(self, enrolment: Enrolment) -> None:
        """Record that an external CA is about to be asked, unless an identical request is with it already."""
        intent = await self.store.remember(stored_request(enrolment, RequestState.INTENT))
        if intent.id != enrolment.request_id:
            raise Unavailable(
                "an identical request is with the certification authority; repeat this one later",
                retry_after_seconds=intent.retry_after_seconds,
                code="request_in_progress",
            )


def _record(certificate: x509.Certificate, approved: Approved) -> RecordedCertificate:
    enrolment, template = approved.enrolment, approved.template
    one_time = enrolment.identity.one_time
    return RecordedCertificate(
        issuer_key_id=issuer_key_id(approved.issuer),
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
