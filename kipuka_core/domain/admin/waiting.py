"""Requests that wait for a person: shown with what every policy says of them now, approved, rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from kipuka_core.domain.admin.store import AdminStore
from kipuka_core.domain.approval import Approvals
from kipuka_core.domain.judge import Assessment
from kipuka_core.domain.ports import CsrReader
from kipuka_core.errors import Conflict, InvalidInput, NotFound, PostcheckFailed, RequestRefused, Unavailable
from kipuka_core.model.administrator import Administrator
from kipuka_core.model.certificate import Issued
from kipuka_core.model.record import RequestState, StoredRequest
from kipuka_core.model.request import Csr
from kipuka_core.model.search import Page, PageWanted

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

    async def approve(self, administrator: Administrator, request_id: str) -> Issued:
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
