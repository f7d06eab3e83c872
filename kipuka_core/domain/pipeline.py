"""The one road of an enrolment, readable top to bottom: :meth:`Road.enrol`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

from kipuka_core.domain.authenticate import Authentication
from kipuka_core.domain.ca_choice import CaChoice
from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.issuance import Issuance
from kipuka_core.domain.judge import Assessment, Judge
from kipuka_core.domain.meter import Meter
from kipuka_core.domain.ports import CsrReader
from kipuka_core.domain.remembered import RememberedRequests
from kipuka_core.domain.renewal import RenewalRule
from kipuka_core.domain.reservations import Reservations
from kipuka_core.errors import CaAway, RequestRefused, Unavailable
from kipuka_core.model.certificate import CaChain, Issued
from kipuka_core.model.enrolment import Enrolment, EnrolRequest
from kipuka_core.model.identity import ClientIdentity, Offer
from kipuka_core.model.label import Label
from kipuka_core.model.request import Csr, Operation
from kipuka_core.model.verdict import Wait

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """Everything between the routed request and the answer."""

    authentication: Authentication
    reader: CsrReader
    remembered: RememberedRequests
    reservations: Reservations
    renewal: RenewalRule
    judge: Judge
    issuance: Issuance
    cas: Mapping[str, CaBackend]
    choice: CaChoice
    guard: Guard
    meter: Meter = field(default_factory=Meter)
    _running: set[asyncio.Task[Any]] = field(default_factory=set)

    async def enrol(self, request: EnrolRequest) -> Issued | Wait:
        """Simpleenroll and simplereenroll (RFC 7030 4.2): the certificate, or "come back later".

        Raises RequestRefused, carrying who was refused as far as that is known.
        """
        offer = _offer(request, self.reader)
        with self.meter.timed("authenticate"):
            identity = await self.authentication.identify(offer)
        try:
            with self.meter.timed("prove"):
                enrolment = self._proven(offer, identity, request)
            # From here on a client that hangs up changes nothing any more (invariant 3).
            return await self.undisturbed(self._answer(enrolment))
        except RequestRefused as refusal:
            refusal.actor, refusal.authenticator = identity.entity_id, identity.authenticator
            raise

    def _proven(self, offer: Offer, identity: ClientIdentity, request: EnrolRequest) -> Enrolment:
        """The enrolment, once its CSR is decoded, signed by its own key and bound to this connection."""
        csr = offer.read_csr()
        if request.label.rules.require_proof_of_possession:
            self.reader.verify_possession(csr)
        self.reader.verify_binding(csr, request.label, offer)
        return Enrolment(
            request_id=request.request_id,
            operation=request.operation,
            label=request.label,
            identity=identity,
            csr=csr,
            connection=request.connection,
            time=request.time,
        )

    async def _answer(self, enrolment: Enrolment) -> Issued | Wait:
        with self.meter.timed("recall"):
            answered_before = await self.remembered.answer(enrolment)
        if answered_before is not None:
            return answered_before
        with self.meter.timed("reserve"):
            replayed = await self.reservations.reserve(enrolment)
        if replayed is not None:
            return replayed
        try:
            return await self.have_issued(enrolment)
        except BaseException:
            await self.reservations.release(enrolment)
            raise

    async def have_issued(self, enrolment: Enrolment, *, waits_are_answered: bool = False) -> Issued | Wait:
        """Judge it and have it issued, by the first CA of the label that is not away.

        ``waits_are_answered``: a person has approved it.
        """
        is_only = not self.choice.is_group(enrolment.label)
        away: CaAway | None = None
        for placed in self.choice.places(enrolment):
            try:
                with self.choice.watched(placed.label.ca_id) as seen:
                    with self.meter.timed("judge"):
                        approved = (await self.assess(placed)).outcome(waits_are_answered=waits_are_answered)
                    if isinstance(approved, Wait):
                        return await self.remembered.wait(enrolment, approved)
                    outcome = await self.issuance.issue(approved, is_last=is_only)
                    seen.has_answered()
                    return outcome
            except CaAway as error:
                if is_only:
                    raise
                away = error
        await self.issuance.store.withdraw_intent(enrolment.request_id)
        raise away or Unavailable("no certification authority can be reached now; repeat the request later")

    async def assess(self, enrolment: Enrolment) -> Assessment:
        """The renewal rule, the core rules and every policy; also what the dry run and an approval go through."""
        if enrolment.operation is Operation.SIMPLEREENROLL:
            renewing = await self.renewal.check(enrolment, await self.chain(self.choice.home(enrolment.label)))
            enrolment = replace(enrolment, renewing=renewing)
        ca_id = self.choice.one_of(enrolment.label)
        backend, chain = self.cas[ca_id], await self.choice.chain_of(ca_id)
        return await self.judge.assess(enrolment, chain.issuing, backend.longest_validity, backend.may_set)

    async def chain(self, label: Label) -> CaChain:
        """The certificates of the label's CA, as they are now; of a group, those of every member that answers."""
        return await self.choice.chain(label)

    async def drain(self) -> None:
        """Wait until every request that was begun has its answer on record."""
        while self._running:
            await asyncio.wait(tuple(self._running))

    async def undisturbed(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Do this to its end, whatever becomes of who waits for it; :meth:`drain` waits too."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here for the case that nobody waits for it any more


def _offer(request: EnrolRequest, reader: CsrReader) -> Offer:
    @cache
    def read_csr() -> Csr:
        return reader.decode(request.body)

    return Offer(
        operation=request.operation,
        label=request.label,
        connection=request.connection,
        credentials=request.credentials,
        read_csr=read_csr,
        time=request.time,
    )
