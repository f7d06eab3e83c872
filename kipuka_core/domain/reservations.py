"""One-time passwords on the road (invariant 5): reserved before judging, used up only together with the record."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from cryptography import x509

from kipuka_core.domain.facts import enrolment_facts
from kipuka_core.domain.ports import EventHub, Store
from kipuka_core.errors import NotAllowed, NotAuthenticated, RequestRefused, StoreUnavailable, Unavailable
from kipuka_core.model.certificate import Issued
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import EnrolmentReplayed
from kipuka_core.model.record import CertificateStatus, RecordedCertificate, Reservation

REPLAY_WINDOW = timedelta(minutes=10)
"""How long the same CSR with the same one-time password gets the same certificate again."""

_REFUSALS: dict[Reservation, RequestRefused] = {
    Reservation.USED: NotAuthenticated("this one-time password has been used up; ask for a new one", code="otp_used"),
    Reservation.EXPIRED: NotAuthenticated("this one-time password has expired; ask for a new one", code="otp_expired"),
    Reservation.REVOKED: NotAuthenticated(
        "this one-time password was withdrawn; ask for a new one", code="otp_revoked"
    ),
    Reservation.UNKNOWN: NotAuthenticated("this one-time password does not exist any more", code="otp_unknown"),
    Reservation.OTHER_LABEL: NotAllowed("this one-time password was made for another path", code="otp_other_label"),
}


@dataclass(frozen=True, slots=True)
class Reservations:
    """Takes and gives back the one-time password of a request."""

    store: Store
    events: EventHub
    lease_seconds: int

    async def reserve(self, enrolment: Enrolment) -> Issued | None:
        """Reserve the request's one-time password, if it came with one.

        Returns the certificate that this very CSR got for this password a moment ago (a lost answer is not a lost
        device), or None to go on. Raises NotAuthenticated, NotAllowed, or Unavailable for one that is in use now.
        """
        one_time = enrolment.identity.one_time
        if one_time is None:
            return None
        again = await self._again(enrolment, one_time.otp_id)
        if again is not None:
            return again
        outcome = await self.store.reserve(
            one_time.otp_id,
            request_id=enrolment.request_id,
            label=enrolment.label.name,
            csr_fingerprint=enrolment.csr.fingerprint,
            now=enrolment.time,
            lease_seconds=self.lease_seconds,
        )
        if outcome is Reservation.USED:
            # By this very request, perhaps, which another connection has brought and which was served meanwhile.
            again = await self._again(enrolment, one_time.otp_id)
            if again is not None:
                return again
        if outcome is not Reservation.RESERVED:
            _refuse(outcome)
        return None

    async def release(self, enrolment: Enrolment) -> None:
        """Give the password back after a refusal; where the store is away, its lease ends by itself."""
        if enrolment.identity.one_time is not None:
            with suppress(StoreUnavailable):
                await self.store.release(enrolment.request_id)

    async def _again(self, enrolment: Enrolment, otp_id: str) -> Issued | None:
        """The certificate that this password got for this CSR a moment ago."""
        since = enrolment.time - REPLAY_WINDOW
        earlier = await self.store.replayable(otp_id, enrolment.csr.fingerprint, since)
        if earlier is None or not _still_good(earlier, enrolment):
            return None
        await self.events.emit(EnrolmentReplayed(**enrolment_facts(enrolment), serial=earlier.serial_hex))
        return Issued(x509.load_der_x509_certificate(earlier.certificate_der))


def _still_good(earlier: RecordedCertificate, enrolment: Enrolment) -> bool:
    return earlier.status is CertificateStatus.ACTIVE and earlier.label == enrolment.label.name


def _refuse(outcome: Reservation) -> NoReturn:
    if outcome is Reservation.BUSY:
        raise Unavailable(
            "this one-time password is being used by another request right now; repeat the request",
            retry_after_seconds=5,
            code="otp_busy",
        )
    template = _REFUSALS[outcome]
    raise type(template)(template.reason, code=template.code)
