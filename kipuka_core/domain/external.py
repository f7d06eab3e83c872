"""CAs outside this process: asked once, by a request that is on record, whose fate is known or found out.

A request to such a CA is on record before it is sent, with what was approved (invariant 2). What the CA calls it is on
record before it is asked for the next step, and its certificate before anything else is done with it. So whatever
breaks, and whenever: nothing is asked for twice, and what was issued is found again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.facts import enrolment_facts
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import EventHub, Store
from kipuka_core.domain.remembered import stored_request
from kipuka_core.domain.template_record import template_der
from kipuka_core.errors import CaAway, KipukaError, OutcomeUnknown, PluginFailed, RequestRefused, Unavailable, detail_of
from kipuka_core.model.asked import Asked
from kipuka_core.model.certificate import Approved, Issued
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import CertificateDiscarded, EnrolmentWaiting, RequestDecided, RequestHeld
from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.model.record import AtCa, RequestState
from kipuka_core.model.verdict import Wait

log = logging.getLogger(__name__)

FIRST_POLL_SECONDS = 5
LONGEST_POLL_SECONDS = 3600
_STEPS = 20
"""How often a CA may say "at once" before it is made to wait."""
_ticks = time.monotonic
_CESSATION_OF_OPERATION = 5
OUTCOMES: tuple[type[Issued | Wait], ...] = (Issued, Wait)
"""What a CA answers."""


@dataclass(frozen=True, slots=True)
class ExternalCas:
    """Asks them, and keeps the record of what was asked."""

    cas: Mapping[str, CaBackend]
    guard: Guard
    store: Store
    events: EventHub

    async def ask(self, approved: Approved, *, forgets: bool = True) -> Issued | Wait:
        """Have a template signed that nobody has been asked for yet.

        Issued: the certificate is on record as an answer, and is still to be checked. Wait: the request is on record as
        pending. Raises RequestRefused when the CA refuses, CaAway when it is away, and Unavailable while the outcome is
        unknown. ``forgets``: nobody else is asked when it is away, so that the intent is over then.
        """
        enrolment = approved.enrolment
        ca_id = enrolment.label.ca_id
        backend = self.cas[ca_id]
        await self._intend(approved)
        try:
            outcome: Issued | Wait = await self.guard.call(ca_id, backend.issue, approved, expect=OUTCOMES)
        except (OutcomeUnknown, PluginFailed) as error:
            await self._look_later(approved, error)
            raise _unknown(enrolment) from error
        except Unavailable as error:
            if forgets:
                await self.store.withdraw_intent(enrolment.request_id)
            raise ca_away(error) from error
        except RequestRefused:
            await self.store.withdraw_intent(enrolment.request_id)
            raise
        return await self.follow(approved, outcome)

    async def follow(self, approved: Approved, outcome: Issued | Wait, *, polls: int = 0) -> Issued | Wait:
        """Record what the CA has said, and poll it as long as it says "at once".

        Raises RequestRefused when it refuses now; then the request is closed.
        """
        enrolment = approved.enrolment
        ca_id = enrolment.label.ca_id
        began = _ticks()
        for step in range(_STEPS):
            if isinstance(outcome, Issued):
                der = outcome.certificate.public_bytes(serialization.Encoding.DER)
                await self.store.keep_answer(enrolment.request_id, der)
                return outcome
            pending = outcome
            is_at_once = pending.retry_after_seconds == 0 and step < _STEPS - 1
            now = enrolment.time + timedelta(seconds=_ticks() - began + self.guard.timeout_seconds)
            wait = await self._note(approved, pending, now, is_at_once=is_at_once, polls=polls)
            if not is_at_once:
                return wait
            question = asked(approved, pending.reference)
            try:
                outcome = await self.guard.call(ca_id, self.cas[ca_id].poll, question, expect=OUTCOMES)
            except (Unavailable, PluginFailed) as error:  # an outcome that is unknown is one that is not there yet
                _log(ca_id, enrolment, error)
                return await self._note(approved, pending, now, is_at_once=False, polls=polls)
            except RequestRefused as refusal:
                await self.refuse(approved, refusal.reason)
                raise
        raise AssertionError("the last step returns")

    async def refuse(self, approved: Approved, reason: str) -> None:
        """Close a request that the CA has refused for good."""
        enrolment = approved.enrolment
        event = RequestDecided(
            time=enrolment.time,
            request_id=enrolment.request_id,
            actor=f"ca:{enrolment.label.ca_id}",
            label=enrolment.label.name,
            entity_id=enrolment.identity.entity_id,
            decision="refused",
            reason=reason,
        )
        await self.store.decide_request(enrolment.request_id, refused_because=reason, event=event)
        await self._tell(event)

    async def hold(self, approved: Approved, reason: str) -> None:
        """Leave a request to a person: whether it was issued is not known, and nobody can be asked."""
        enrolment = approved.enrolment
        event = RequestHeld(
            time=enrolment.time,
            request_id=enrolment.request_id,
            actor=enrolment.identity.entity_id,
            label=enrolment.label.name,
            ca_id=enrolment.label.ca_id,
            reason=reason,
        )
        await self.store.poll_at(enrolment.request_id, None, event)
        await self._tell(event)

    async def discard(self, certificate: x509.Certificate, approved: Approved, why: Exception) -> None:
        """A certificate that must not be used: say so, have the CA revoke it where it can, and close its request."""
        enrolment = approved.enrolment
        ca_id = enrolment.label.ca_id
        backend = self.cas[ca_id]
        problem = "the CA cannot be told"
        if backend.revokes:
            problem = ""
            try:
                await self.guard.call(ca_id, backend.revoke, certificate, _CESSATION_OF_OPERATION, expect=type(None))
            except RequestRefused as error:
                problem = detail_of(error)
        reason = detail_of(why)
        await self.events.emit(
            CertificateDiscarded(
                time=enrolment.time,
                request_id=enrolment.request_id,
                actor=enrolment.identity.entity_id,
                label=enrolment.label.name,
                ca_id=ca_id,
                serial=serial_hex(certificate),
                certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
                revoked=not problem,
                reason=f"{reason}; {problem}" if problem else reason,
            )
        )
        await self.refuse(approved, "the certification authority did not issue what was approved")

    async def _intend(self, approved: Approved) -> None:
        """Record what is about to be asked for, unless an identical request is with the CA already."""
        enrolment = approved.enrolment
        at_ca = AtCa(
            ca_id=enrolment.label.ca_id,
            template_der=template_der(approved.template),
            issuer_der=approved.issuer.public_bytes(serialization.Encoding.DER),
            asked_at=enrolment.time,
            next_poll_at=enrolment.time + self.lease,
        )
        intent = await self.store.remember(stored_request(enrolment, RequestState.INTENT, at_ca=at_ca))
        if intent.id != enrolment.request_id:
            raise Unavailable(
                "an identical request is with the certification authority; repeat this one later",
                retry_after_seconds=intent.retry_after_seconds,
                code="request_in_progress",
            )

    @property
    def lease(self) -> timedelta:
        """How long a request that is being asked for is left alone by those who look after lost ones."""
        return timedelta(seconds=3 * self.guard.timeout_seconds + 5)

    async def _note(self, approved: Approved, wait: Wait, now: datetime, *, is_at_once: bool, polls: int) -> Wait:
        enrolment = approved.enrolment
        told_seconds = wait.retry_after_seconds or enrolment.label.retry_after_seconds
        pause = self.lease if is_at_once else timedelta(seconds=poll_pause_seconds(wait.retry_after_seconds, polls))
        event = None
        if not is_at_once and not polls:
            event = EnrolmentWaiting(**enrolment_facts(enrolment), reason=wait.reason)
            await self.events.announce(event)
        await self.store.note_pending(
            enrolment.request_id,
            wait,
            next_poll_at=(now if is_at_once else enrolment.time) + pause,
            retry_after_seconds=told_seconds,
            event=event,
        )
        return Wait(wait.reason, told_seconds)

    async def _look_later(self, approved: Approved, error: RequestRefused) -> None:
        enrolment = approved.enrolment
        ca_id = enrolment.label.ca_id
        _log(ca_id, enrolment, error)
        if not self.cas[ca_id].finds:
            await self.hold(approved, "its outcome at the CA is unknown, and the CA cannot be asked")
            return
        await self.store.poll_at(enrolment.request_id, enrolment.time + timedelta(seconds=FIRST_POLL_SECONDS))

    async def _tell(self, event: RequestDecided | RequestHeld) -> None:
        try:
            await self.events.announce(event)
        except KipukaError:
            return  # the store has it, and it takes nothing away from anybody


def ca_away(error: Unavailable) -> CaAway:
    """The same refusal, of which it is known that it is the CA's."""
    return CaAway(error.reason, retry_after_seconds=error.retry_after_seconds, code=error.code)


def asked(approved: Approved, reference: str) -> Asked:
    """What a backend is given to find out what became of a request."""
    enrolment = approved.enrolment
    return Asked(
        request_id=enrolment.request_id,
        template=approved.template,
        csr_der=enrolment.csr.der,
        issuer=approved.issuer,
        reference=reference,
        asked_at=enrolment.time,
    )


def poll_pause_seconds(wanted_seconds: int | None, polls: int) -> int:
    """Until the next look: twice as long each time, and never sooner than the CA wants."""
    pause_seconds = FIRST_POLL_SECONDS << min(polls, 10)
    return max(wanted_seconds or 0, min(pause_seconds, LONGEST_POLL_SECONDS))


def _unknown(enrolment: Enrolment) -> Unavailable:
    return Unavailable(
        "the certification authority gave no clear answer; this request is kept and not sent again: repeat it later",
        retry_after_seconds=enrolment.label.retry_after_seconds,
        code="ca_outcome_unknown",
    )


def _log(ca_id: str, enrolment: Enrolment, error: RequestRefused) -> None:
    log.warning("CA %s: request %s: no clear answer: %s", ca_id, enrolment.request_id, detail_of(error))
