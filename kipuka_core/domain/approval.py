"""What becomes of a waiting request: judged again by the same code, then issued or refused (invariant 7)."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kipuka_core.domain.judge import Assessment
from kipuka_core.domain.pipeline import Road
from kipuka_core.domain.ports import EventHub, Store
from kipuka_core.domain.revival import enrolment_of
from kipuka_core.errors import Conflict, NotFound, Unavailable
from kipuka_core.model.certificate import Issued
from kipuka_core.model.event import RequestDecided
from kipuka_core.model.label import Label
from kipuka_core.model.record import RequestState, StoredRequest
from kipuka_core.model.verdict import Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Decides waiting requests on behalf of ``actor``."""

    road: Road
    store: Store
    events: EventHub
    labels: Mapping[str, Label]
    _deciding: set[str] = field(default_factory=set)
    """The requests that are being decided now."""

    async def approve(self, request_id: str, *, actor: str, now: datetime) -> Issued | Wait:
        """Judge the request again, with every Wait answered, and issue; goes on when the caller is cancelled.

        Wait: an external CA has it now, and decides.

        Raises RequestRefused when a rule or policy objects now; the request goes on waiting then.
        """
        if request_id in self._deciding:  # another process may be at it too: the store lets one certificate in
            raise Conflict("somebody else is deciding this request right now", code="being_decided")
        self._deciding.add(request_id)
        return await self.road.undisturbed(self._alone(request_id, self._approve(request_id, actor, now)))

    async def _alone(self, request_id: str, work: Coroutine[Any, Any, Issued | Wait]) -> Issued | Wait:
        try:
            return await work
        finally:
            self._deciding.discard(request_id)

    async def _approve(self, request_id: str, actor: str, now: datetime) -> Issued | Wait:
        stored = await self._waiting(request_id)
        enrolment = enrolment_of(stored, self.labels, self.road.reader, now)
        outcome = await self.road.have_issued(enrolment, waits_are_answered=True)
        await self.events.emit(_decided(stored, actor, now, "approved", ""))
        return outcome

    async def assess(self, stored: StoredRequest, now: datetime) -> Assessment:
        """What every policy says of a remembered request now. Raises RequestRefused when a core rule is broken."""
        return await self.road.assess(enrolment_of(stored, self.labels, self.road.reader, now))

    async def reject(self, request_id: str, *, actor: str, now: datetime, reason: str) -> None:
        """Refuse the request for good; its one-time password is free again."""
        stored = await self._waiting(request_id)
        event = _decided(stored, actor, now, "rejected", reason)
        await self.store.decide_request(request_id, refused_because=reason, event=event)
        with suppress(Unavailable):  # it takes rights away: done, whether or not every sink has heard of it
            await self.events.announce(event)

    async def _waiting(self, request_id: str) -> StoredRequest:
        stored = await self.store.get_request(request_id)
        if stored is None or stored.state is not RequestState.WAITING:
            raise NotFound("no request with this id is waiting")
        return stored


def _decided(stored: StoredRequest, actor: str, now: datetime, decision: str, reason: str) -> RequestDecided:
    return RequestDecided(
        time=now,
        request_id=stored.id,
        actor=actor,
        label=stored.label,
        reason=reason,
        decision=decision,
        entity_id=stored.entity_id,
    )
