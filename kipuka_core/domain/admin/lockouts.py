"""Lockouts: who gets 429 now, and letting somebody in again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kipuka_core.domain.admin.announcing import announce_all
from kipuka_core.domain.admin.store import AdminStore, Lockout
from kipuka_core.domain.ports import EventHub
from kipuka_core.errors import NotFound
from kipuka_core.model.administrator import Administrator
from kipuka_core.model.event import LockoutLifted


@dataclass(frozen=True, slots=True, kw_only=True)
class LockoutAdministration:
    """What administrators do with lockouts."""

    store: AdminStore
    events: EventHub
    clock: Callable[[], datetime]

    async def list(self) -> Sequence[Lockout]:
        """Every one that has not ended, the next to end first."""
        return await self.store.list_lockouts(self.clock())

    async def lift(self, administrator: Administrator, address: str, entity_id: str | None) -> None:
        """End the lockout of a pair, or with ``entity_id`` None of the whole address. Raises NotFound."""
        there_is_none = NotFound("there is no such lockout now; GET /admin/lockouts lists them")
        now = self.clock()
        if not any((each.address, each.entity_id) == (address, entity_id) for each in await self.list()):
            raise there_is_none
        event = LockoutLifted(time=now, actor=administrator.name, address=address, entity_id=entity_id or "")
        await announce_all(self.events, [event])
        if not await self.store.lift_lockout(address, entity_id, event):
            raise there_is_none
