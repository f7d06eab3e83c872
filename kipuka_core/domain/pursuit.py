"""What becomes of requests that external CAs have not decided, or whose outcome was lost.

Any process may look: a request is claimed for a while, in the store, by the one that does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from kipuka_core.domain.external import OUTCOMES, ExternalCas, asked, poll_pause_seconds
from kipuka_core.domain.issuance import Issuance
from kipuka_core.domain.ports import CsrReader
from kipuka_core.domain.revival import approved_of
from kipuka_core.errors import NotIssued, PluginFailed, PostcheckFailed, RequestRefused, Unavailable, detail_of
from kipuka_core.model.certificate import Approved, Issued
from kipuka_core.model.label import Label
from kipuka_core.model.record import AtCa, RequestState, StoredRequest

log = logging.getLogger(__name__)

_AT_ONCE = 20
_DEFAULT_PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pursuit:
    """Looks after what is due."""

    issuance: Issuance
    labels: Mapping[str, Label]
    reader: CsrReader
    patience: Mapping[str, timedelta]
    """By CA: how long after it was asked a request is given up."""

    @property
    def external(self) -> ExternalCas:
        """What is different about CAs outside this process."""
        return self.issuance.external

    async def look(self, now: datetime) -> int:
        """Look after every request that is due now; how many those were. Raises StoreUnavailable."""
        claimed = await self.issuance.store.claim_polls(now, self.external.lease, _AT_ONCE)
        # Side by side: one that is slow does not keep the others beyond their lease.
        ended = await asyncio.gather(*(self._one(stored, now) for stored in claimed), return_exceptions=True)
        for stored, error in zip(claimed, ended, strict=True):
            if isinstance(error, RequestRefused):  # it is due again when the lease has ended
                log.warning("request %s: %s", stored.id, detail_of(error))
            elif isinstance(error, BaseException):
                raise error
        return len(claimed)

    async def settle(self, stored: StoredRequest, now: datetime, certificate: x509.Certificate | None) -> None:
        """What a person knows of a request at a CA: that this certificate was issued, or that none was.

        None was: the client may ask anew, which is a new request to the CA.
        Raises PostcheckFailed for a certificate that is not what was approved, and Unavailable.
        """
        at_ca = _at_ca(stored)
        if certificate is None and stored.state is RequestState.INTENT:
            await self.issuance.store.withdraw_intent(stored.id)
        elif certificate is None:
            await self.external.refuse(self._approved(stored, at_ca, now), "the certification authority has not issued")
            await self.issuance.store.forget_refused(stored.id)
        else:
            await self.issuance.finish(Issued(certificate), self._approved(stored, at_ca, now), discards=False)

    async def _one(self, stored: StoredRequest, now: datetime) -> None:
        at_ca = _at_ca(stored)
        try:
            approved = self._approved(stored, at_ca, now)
        except (RequestRefused, ValueError) as error:
            log.error("request %s cannot be read any more: %s", stored.id, error)
            await self.issuance.store.poll_at(stored.id, None)
            return
        if stored.certificate_der is not None:
            await self._finish(Issued(x509.load_der_x509_certificate(stored.certificate_der)), approved)
        elif at_ca.ca_id not in self.issuance.cas:
            await self.external.hold(approved, f"the CA {at_ca.ca_id} is not configured any more")
        elif not at_ca.reference and not self.issuance.cas[at_ca.ca_id].finds:
            await self.external.hold(approved, "its outcome at the CA is unknown, and the CA cannot be asked")
        else:
            await self._poll(stored, at_ca, approved)

    async def _poll(self, stored: StoredRequest, at_ca: AtCa, approved: Approved) -> None:
        backend = self.issuance.cas[at_ca.ca_id]
        question = replace(asked(approved, at_ca.reference), asked_at=at_ca.asked_at)  # the enrolment's time is now
        try:
            outcome = await self.issuance.guard.call(at_ca.ca_id, backend.poll, question, expect=OUTCOMES)
            outcome = await self.external.follow(approved, outcome, polls=at_ca.polls + 1)
        except NotIssued as refusal:
            if stored.state is RequestState.INTENT:
                await self.issuance.store.withdraw_intent(stored.id)
            else:
                await self.external.refuse(approved, refusal.reason)
            return
        except (Unavailable, PluginFailed) as error:
            await self._later(stored, at_ca, approved, error)
            return
        except RequestRefused as refusal:
            await self.external.refuse(approved, refusal.reason)
            return
        if isinstance(outcome, Issued):
            await self._finish(outcome, approved)
        elif self._is_over(at_ca, approved.enrolment.time):
            await self._give_up(stored, approved)

    async def _later(self, stored: StoredRequest, at_ca: AtCa, approved: Approved, error: RequestRefused) -> None:
        now = approved.enrolment.time
        if self._is_over(at_ca, now):
            await self._give_up(stored, approved)
            return
        log.info("CA %s: request %s: %s", at_ca.ca_id, stored.id, detail_of(error))
        wanted_seconds = error.retry_after_seconds if isinstance(error, Unavailable) else None
        pause = timedelta(seconds=poll_pause_seconds(wanted_seconds, at_ca.polls))
        await self.issuance.store.poll_at(stored.id, now + pause)

    async def _finish(self, issued: Issued, approved: Approved) -> None:
        try:
            await self.issuance.finish(issued, approved)
        except PostcheckFailed as error:
            log.error("request %s: %s", approved.enrolment.request_id, error.detail)

    def _is_over(self, at_ca: AtCa, now: datetime) -> bool:
        return now - at_ca.asked_at > self.patience.get(at_ca.ca_id, _DEFAULT_PATIENCE)

    async def _give_up(self, stored: StoredRequest, approved: Approved) -> None:
        if stored.state is RequestState.INTENT:
            await self.external.hold(approved, "its outcome at the CA could not be found out for too long")
        else:
            await self.external.refuse(
                approved, "the certification authority did not decide in time; send a new request"
            )

    def _approved(self, stored: StoredRequest, at_ca: AtCa, now: datetime) -> Approved:
        return approved_of(stored, at_ca, self.labels, self.reader, now)


def _at_ca(stored: StoredRequest) -> AtCa:
    if stored.at_ca is None:
        raise Unavailable("this request is with no CA")
    return stored.at_ca
