"""What was revoked here, told to the external CAs that issued it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import EventHub, Store
from kipuka_core.domain.status_ports import StatusStore
from kipuka_core.errors import PluginFailed, RequestRefused, Unavailable, detail_of
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.event import RevocationForwarded
from kipuka_core.model.fingerprints import issuer_key_id
from kipuka_core.model.status import StatusChange

log = logging.getLogger(__name__)
_PAUSE = timedelta(seconds=30)


class TellingStore(Store, StatusStore, Protocol):
    """What this asks of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationTeller:
    """Follows the changes of status of each external CA that can be told, from where it was before.

    A CA may hear of a revocation twice, after a crash; never not at all.
    """

    cas: Mapping[str, CaBackend]
    guard: Guard
    store: TellingStore
    events: EventHub
    _not_before: dict[str, datetime] = field(default_factory=dict)

    async def look(self, now: datetime) -> None:
        """Tell what there is to tell. A CA that is away is tried again after a pause."""
        for ca_id, backend in self.cas.items():
            if not (backend.external and backend.revokes) or now < self._not_before.get(ca_id, now):
                continue
            try:
                await self._tell(ca_id, backend, now)
            except (Unavailable, PluginFailed) as error:
                log.warning("CA %s: revocations are not told: %s", ca_id, detail_of(error))
                self._not_before[ca_id] = now + _PAUSE

    async def _tell(self, ca_id: str, backend: CaBackend, now: datetime) -> None:
        chain = await self.guard.call(ca_id, backend.chain, expect=CaChain)
        for issuer in (chain.issuing, *chain.previous):
            key_id = issuer_key_id(issuer)
            told = await self.store.told_change(key_id)
            changes = (await self.store.revocation_state(key_id)).changes
            if changes <= told:
                continue
            for change in await self.store.status_changes(key_id, after=told, ended_since=now):
                await self._tell_one(ca_id, backend, key_id, change, now)
                await self.store.note_told(key_id, change.change)
            await self.store.note_told(key_id, changes)  # those that have ended meanwhile are nobody's matter

    async def _tell_one(self, ca_id: str, backend: CaBackend, key_id: str, change: StatusChange, now: datetime) -> None:
        record = await self.store.find_certificate(key_id, change.serial_hex)
        if record is None or change.revoked_at is None or change.reason is None:
            return  # released: what a CA has revoked stays revoked there, if it cannot do that by itself
        problem = ""
        try:
            certificate = x509.load_der_x509_certificate(record.certificate_der)
            await self.guard.call(ca_id, backend.revoke, certificate, change.reason, expect=type(None))
        except (Unavailable, PluginFailed):
            raise
        except RequestRefused as refusal:
            problem = refusal.reason
            log.error("CA %s refuses to revoke %s: %s", ca_id, change.serial_hex, problem)
        await self.events.emit(
            RevocationForwarded(
                time=now, label=record.label, ca_id=ca_id, serial=change.serial_hex, reason=problem, done=not problem
            )
        )
