"""Requests that outlive their connection: recognised when they are repeated, and answered the same (row 14)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.domain.facts import enrolment_facts
from kipuka_core.domain.meter import Meter
from kipuka_core.domain.ports import EventHub, Store
from kipuka_core.errors import NotAllowed, Unavailable
from kipuka_core.model.certificate import Issued
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import EnrolmentWaiting
from kipuka_core.model.record import AtCa, RequestState, StoredRequest
from kipuka_core.model.verdict import Wait


def request_key(enrolment: Enrolment) -> str:
    """What makes two requests the same: operation, label, identity and CSR (re-signed or not)."""
    identity = enrolment.identity
    parts = (enrolment.operation, enrolment.label.name, identity.authenticator, identity.entity_id)
    return hashlib.sha256("\0".join((*parts, enrolment.csr.fingerprint)).encode()).hexdigest()


def stored_request(
    enrolment: Enrolment, state: RequestState, wait: Wait | None = None, at_ca: AtCa | None = None
) -> StoredRequest:
    """The row for a request, with all that judging it again will need."""
    identity = enrolment.identity
    certificate = identity.certificate
    retry_after_seconds = wait.retry_after_seconds if wait else None
    return StoredRequest(
        id=enrolment.request_id,
        key=request_key(enrolment),
        state=state,
        operation=enrolment.operation,
        label=enrolment.label.name,
        entity_id=identity.entity_id,
        authenticator=identity.authenticator,
        names=tuple(sorted(identity.names)),
        csr_der=enrolment.csr.der,
        client_certificate_der=certificate.public_bytes(serialization.Encoding.DER) if certificate else None,
        otp_id=identity.one_time.otp_id if identity.one_time else None,
        subject_pattern=identity.one_time.subject_pattern if identity.one_time else None,
        reason=wait.reason if wait else "",
        retry_after_seconds=retry_after_seconds or enrolment.label.retry_after_seconds,
        source_address=enrolment.connection.source_address,
        tls_version=enrolment.connection.tls_version,
        created_at=enrolment.time,
        at_ca=at_ca,
    )


@dataclass(frozen=True, slots=True)
class RememberedRequests:
    """Answers what was answered before."""

    store: Store
    events: EventHub
    meter: Meter = field(default_factory=Meter)

    async def answer(self, enrolment: Enrolment) -> Issued | Wait | None:
        """The answer to an identical earlier request, or None when there was none.

        Raises NotAllowed when that one was rejected, Unavailable while its outcome is unknown.
        """
        earlier = await self.store.find_request(request_key(enrolment))
        if earlier is None:
            return None
        if earlier.state in {RequestState.WAITING, RequestState.PENDING}:
            return _wait(earlier)
        if earlier.state is RequestState.REFUSED:
            raise NotAllowed(earlier.reason or "this request was rejected", code="request_rejected")
        if earlier.state is RequestState.INTENT or earlier.certificate_der is None:
            raise Unavailable(
                "an identical request is with the certification authority; repeat this one later",
                retry_after_seconds=earlier.retry_after_seconds,
                code="request_in_progress",
            )
        await self.store.mark_fetched(earlier.id, enrolment.time)
        return Issued(x509.load_der_x509_certificate(earlier.certificate_der))

    async def wait(self, enrolment: Enrolment, wait: Wait) -> Wait:
        """Remember that this request waits; it keeps its one-time password until it is decided."""
        event = EnrolmentWaiting(**enrolment_facts(enrolment), reason=wait.reason)
        await self.events.announce(event)
        remembered = await self.store.remember(stored_request(enrolment, RequestState.WAITING, wait), event)
        self.meter.fact(event)
        return _wait(remembered)


def _wait(request: StoredRequest) -> Wait:
    return Wait(request.reason, request.retry_after_seconds)
