"""The CRL of one issuer's key: made when something has changed or its time has come, published once, served by all.

A CRL is signed first and published afterwards, together with its number, in one transaction that succeeds only when no
other process was faster. What was signed and not published nobody has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from kipuka_core.domain.ca_ports import RunBlocking, StatusAuthority
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.status_ports import StatusStore, authority_key_id
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.status.entries import NEVER, CrlEntries
from kipuka_core.edges.status.signing import is_crl_of, sign
from kipuka_core.errors import KipukaError, PluginFailed, Unavailable, detail_of
from kipuka_core.model.fingerprints import issuer_key_id
from kipuka_core.model.status import CrlFacts, PublishedCrl, RevocationState, StatusChange
from kipuka_core.wire.crl import certificate_list, tbs_cert_list
from kipuka_core.wire.signature_algorithms import signature_algorithm

log = get_logger()

_ATTEMPTS = 5
_PAUSE_SECONDS = 2.0
"""After a failure nobody tries again for this long: clients that ask do not queue up before a token that hangs."""


class CrlUnavailable(Unavailable):
    """There is no CRL that is good, and none can be made; ``detail`` is for the log."""

    code = "crl_unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__("no CRL can be made at the moment; repeat the request later")
        self.detail = detail


class CrlPublisher:
    """Makes and hands out the CRLs of one authority. Any number of processes may have one for the same key."""

    def __init__(
        self,
        ca_id: str,
        authority: StatusAuthority,
        *,
        store: StatusStore,
        guard: Guard,
        run_blocking: RunBlocking,
        clock: Callable[[], datetime],
    ) -> None:
        self.ca_id = ca_id
        self.authority = authority
        self.issuer_key_id = issuer_key_id(authority.issuer)
        self._store = store
        self._guard = guard
        self._run_blocking = run_blocking
        self._run_signature = authority.signer.run_blocking or run_blocking
        self._clock = clock
        hash_name = authority.hash_algorithm.name if authority.hash_algorithm else None
        self._algorithm_der = signature_algorithm(authority.issuer.public_key(), hash_name)
        self._entries = CrlEntries()
        self._held: PublishedCrl | None = None
        self._lock = asyncio.Lock()
        self._pause_until = 0.0
        self._trouble = ""

    async def current(self) -> PublishedCrl:
        """A CRL that knows of every revocation up to this call, and is not due to be made anew.

        While none can be made (the key or the database is away) the newest one serves until its nextUpdate: it is true
        as of its thisUpdate, and whoever has it already relies on it too. Raises Unavailable when there is none.
        """
        state = RevocationState(0, None)
        try:
            state = await self._state()
            if not self._is_current(state):
                return await self._make(self._is_current)
            crl = await self._load(state.newest)
            return crl or await self._make(lambda _: False)
        except KipukaError as error:
            return await self._fall_back(state.newest, error)

    async def _state(self) -> RevocationState:
        try:
            return await self._store.revocation_state(self.issuer_key_id)
        except KipukaError as error:
            self._note(error)
            raise

    async def make(self) -> PublishedCrl:
        """A new CRL, whether one is due or not. Raises Unavailable, PluginFailed, StoreUnavailable."""
        return await self._make(lambda _: False)

    def _is_current(self, state: RevocationState) -> bool:
        newest, now = state.newest, self._clock()
        if newest is None or newest.changes < state.changes:
            return False
        return now < min(newest.scheduled_at + self.authority.times.crl_refresh, newest.next_update)

    async def _load(self, newest: CrlFacts | None) -> PublishedCrl | None:
        """The newest CRL with its bytes; None when it is not this issuer's.

        That is so after a CA certificate with another name around the same key, and when somebody has written to the
        database.
        """
        if self._held is not None and self._held.facts == newest:
            return self._held
        published = await self._store.newest_crl(self.issuer_key_id)
        if published is None or not await self._is_ours(published.der):
            return None
        self._held = published
        return published

    async def _make(self, is_enough: Callable[[RevocationState], bool]) -> PublishedCrl:
        """One at a time in this process: who has waited finds what was made meanwhile, and it may be enough."""
        async with self._lock:
            if time.monotonic() < self._pause_until:
                raise CrlUnavailable(self._trouble)
            try:
                return await self._make_alone(is_enough)
            except KipukaError as error:
                self._pause_until = time.monotonic() + _PAUSE_SECONDS
                self._note(error)
                raise

    async def _make_alone(self, is_enough: Callable[[RevocationState], bool]) -> PublishedCrl:
        for _ in range(_ATTEMPTS):
            state = await self._store.revocation_state(self.issuer_key_id)
            if is_enough(state) and (enough := await self._load(state.newest)) is not None:
                return enough
            crl = await self._sign(state)
            number_before = state.newest.number if state.newest else None
            if await self._store.publish_crl(crl, number_before=number_before):
                self._held, self._trouble = crl, ""
                facts = crl.facts
                log.info("CRL published", ca=self.ca_id, number=facts.number, entries=facts.entries)
                return crl
        raise CrlUnavailable("other processes make CRLs of this CA all the time")

    async def _sign(self, state: RevocationState) -> PublishedCrl:
        newest, times = state.newest, self.authority.times
        scheduled_at = newest.scheduled_at if newest else NEVER
        changes = await self._store.status_changes(
            self.issuer_key_id, after=self._entries.changes, ended_since=scheduled_at
        )
        entries = await self._run_blocking(self._take_in, changes, scheduled_at)
        now = self._clock().replace(microsecond=0)
        # At least the time: a database from a backup, or a new one, does not lead back to numbers that were used.
        number = max(newest.number + 1 if newest else 1, int(now.timestamp()))
        tbs_der = await self._run_blocking(self._tbs, number, now, entries)
        signature = await self._guard.call(self.ca_id, self._signature, tbs_der, expect=bytes)
        der = certificate_list(tbs_der, self._algorithm_der, signature)
        if not await self._is_ours(der):
            raise PluginFailed(self.ca_id, "signed a CRL in a way that its certificate does not confirm")
        facts = CrlFacts(
            issuer_key_id=self.issuer_key_id,
            ca_id=self.ca_id,
            number=number,
            changes=max(state.changes, self._entries.changes),
            entries=len(entries),
            this_update=now,
            next_update=now + times.crl_validity,
            scheduled_at=now if now >= scheduled_at + times.crl_refresh else scheduled_at,
        )
        return PublishedCrl(facts, der)

    async def _is_ours(self, der: bytes) -> bool:
        authority = self.authority
        answer: bool = await self._run_blocking(is_crl_of, der, authority.issuer, authority.hash_algorithm)
        return answer

    def _take_in(self, changes: Sequence[StatusChange], scheduled_at: datetime) -> list[bytes]:
        self._entries.apply(changes)
        self._entries.drop_ended(scheduled_at)
        return self._entries.encoded()

    def _tbs(self, number: int, now: datetime, entries: list[bytes]) -> bytes:
        issuer = self.authority.issuer
        return tbs_cert_list(
            issuer=issuer.subject,
            authority_key_id=authority_key_id(issuer),
            algorithm_der=self._algorithm_der,
            number=number,
            this_update=now,
            next_update=now + self.authority.times.crl_validity,
            entries=entries,
        )

    async def _signature(self, tbs_der: bytes) -> bytes:
        authority = self.authority
        signature: bytes = await self._run_signature(
            sign, authority.signer.private_key, authority.hash_algorithm, tbs_der
        )
        return signature

    async def _fall_back(self, newest: CrlFacts | None, error: KipukaError) -> PublishedCrl:
        held = self._held
        with contextlib.suppress(KipukaError):
            held = await self._load(newest) or held
        if held is not None and self._clock() < held.facts.next_update:
            return held
        raise CrlUnavailable(self._trouble) from error

    def _note(self, error: KipukaError) -> None:
        """Say what keeps CRLs from being made once, and again when it has become something else."""
        trouble = trouble_of(error)
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("no CRL can be made; the last one serves until it ends", ca=self.ca_id, problem=trouble)


def trouble_of(error: KipukaError) -> str:
    """What the log says of it."""
    return detail_of(error)
