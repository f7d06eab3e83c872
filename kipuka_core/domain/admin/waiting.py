"""Requests that wait for a person: shown with what every policy says of them now, approved, rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from cryptography import x509

from kipuka_core.domain.admin.store import AdminStore
from kipuka_core.domain.approval import Approvals
from kipuka_core.domain.judge import Assessment
from kipuka_core.domain.ports import CsrReader
from kipuka_core.domain.pursuit import Pursuit
from kipuka_core.errors import Conflict, InvalidInput, NotFound, PostcheckFailed, RequestRefused, Unavailable
from kipuka_core.model.administrator import Administrator
from kipuka_core.model.certificate import Issued
from kipuka_core.model.event import RequestDecided
from kipuka_core.model.record import RequestState, StoredRequest
from kipuka_core.model.request import Csr
from kipuka_core.model.search import Page, PageWanted
from kipuka_core.model.verdict import Wait

MAX_REASON_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTrace:
    """What would become of a request now."""

    assessment: Assessment | None
    """None: a core rule refuses it, or nobody was asked because it is decided."""
    refusal: str = ""
    """What refuses it, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAdministration:
    """What administrators do with remembered requests."""

    store: AdminStore
    clock: Callable[[], datetime]
    reader: CsrReader
    approvals: Approvals | None
    """None where no CA and no policy are open: then requests are only looked at."""
    pursuit: Pursuit | None = None
    """None: as above."""

    async def list(self, page: PageWanted, *, state: RequestState | None) -> Page[StoredRequest]:
        """Newest first; ``state`` None: all."""
        return await self.store.page_of_requests(page, state=state)

    async def one(self, request_id: str) -> StoredRequest:
        """By its id. Raises NotFound."""
        stored = await self.store.get_request(request_id)
        if stored is None:
            raise NotFound("there is no request with this id")
        return stored

    def csr(self, stored: StoredRequest) -> Csr:
        """What it asks for."""
        return self.reader.decode(stored.csr_der)

    async def trace(self, stored: StoredRequest) -> DecisionTrace:
        """What every policy says of a waiting request now, by the code that judges it when it is approved."""
        if stored.state is not RequestState.WAITING or self.approvals is None:
            return DecisionTrace(assessment=None)
        try:
            assessment = await self.approvals.assess(stored, self.clock())
        except RequestRefused as refusal:
            return DecisionTrace(assessment=None, refusal=refusal.reason)
        try:
            assessment.outcome(waits_are_answered=True)
        except RequestRefused as refusal:
            return DecisionTrace(assessment=assessment, refusal=refusal.reason)
        return DecisionTrace(assessment=assessment)

    async def approve(self, administrator: Administrator, request_id: str) -> Issued | Wait:
        """Judge it again and issue; the client's next identical request gets the certificate.

        Raises NotFound; Conflict when it is decided already, or when a rule or policy objects now (it goes on waiting);
        Unavailable when the CA or the audit is away.
        """
        approvals = self._deciding()
        await self._still_waiting(request_id)
        try:
            return await approvals.approve(request_id, actor=administrator.name, now=self.clock())
        except Conflict:
            raise
        except (Unavailable, PostcheckFailed, NotFound):
            await self._still_waiting(request_id)  # two administrators at once: one of them decided
            raise
        except RequestRefused as refusal:
            raise Conflict(f"it is refused now: {refusal.reason}", code="refused_now") from refusal

    async def settle(self, administrator: Administrator, request_id: str, certificate: x509.Certificate | None) -> None:
        """Say what became of a request at a CA: this certificate was issued, or, with None, none was.

        The client's next identical request gets the certificate, or is a new one. A refused request may be asked anew
        then, too. Raises NotFound; Conflict for one that is with no CA, and for a certificate that is not what was
        approved.
        """
        if self.pursuit is None:
            raise Unavailable("requests cannot be settled here", code="not_available")
        stored = await self.one(request_id)
        now = self.clock()
        if certificate is None and stored.state is RequestState.REFUSED:
            await self.store.forget_refused(request_id)
        elif stored.at_ca is None or stored.state not in {RequestState.INTENT, RequestState.PENDING}:
            raise Conflict(f"the request is with no CA: it is {stored.state}", code="not_at_ca")
        else:
            try:
                await self.pursuit.settle(stored, now, certificate)
            except PostcheckFailed as error:
                raise Conflict(
                    f"this certificate is not what was approved: {error.detail}", code="not_what_was_approved"
                ) from error
        await self.pursuit.issuance.events.emit(
            RequestDecided(
                time=now,
                request_id=stored.id,
                actor=administrator.name,
                label=stored.label,
                entity_id=stored.entity_id,
                decision="settled",
                reason="it was not issued" if certificate is None else "it was issued",
            )
        )

    async def reject(self, administrator: Administrator, request_id: str, reason: str) -> None:
        """Refuse it for good; the client is told ``reason``. Raises NotFound, Conflict and InvalidInput."""
        if not reason.strip() or len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
            raise InvalidInput(
                f"reason: must be one line of 1 to {MAX_REASON_LENGTH} characters; the client is told it"
            )
        approvals = self._deciding()
        await self._still_waiting(request_id)
        await approvals.reject(request_id, actor=administrator.name, now=self.clock(), reason=reason)

    def _deciding(self) -> Approvals:
        if self.approvals is None:
            raise Unavailable("requests cannot be decided here", code="not_available")
        return self.approvals

    async def _still_waiting(self, request_id: str) -> None:
        stored = await self.one(request_id)
        if stored.state is not RequestState.WAITING:
            _decided(stored)


def _decided(stored: StoredRequest) -> NoReturn:
    raise Conflict(f"the request does not wait any more: it is {stored.state}", code="already_decided")
