"""Wrong secrets, counted per pair of address and entity and per address, and the lockouts that follow.

Two scopes in one table, told apart by a column of their own, so that no entity's name can be taken for an address's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from kipuka_core.domain.admin.store import Lockout
from kipuka_core.domain.ports import LockoutLimits
from kipuka_core.edges.store.events import insert_events
from kipuka_core.edges.store.moments import from_micros, to_micros
from kipuka_core.edges.store.postgresql import one_at_a_time
from kipuka_core.edges.store.tables import auth_failures, lockouts
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.event import Event

Lockouts = dict[tuple[str, str, str], int]
"""Scope, address, entity to the end of the lockout in microseconds."""

_PAIR, _ADDRESS = "pair", "address"
_LOCK_NUMBER = 0x6B69_7075_6B62  # beside that of migrations
_REFRESH_SECONDS = 1.0

_f = auth_failures.c
_l = lockouts.c
_ACTIVE = select(_l.scope, _l.address, _l.entity_id, _l.locked_until).where(_l.locked_until > bindparam("now"))
_THIS_ONE = (
    _l.scope == bindparam("the_scope"),
    _l.address == bindparam("the_address"),
    _l.entity_id == bindparam("the_entity_id"),
)
_UNTIL = select(_l.locked_until).where(*_THIS_ONE)
_EXTEND = update(lockouts).where(*_THIS_ONE).values(locked_until=bindparam("until"))
_LIFT = update(lockouts).where(*_THIS_ONE, _l.locked_until > bindparam("now")).values(locked_until=bindparam("now"))
_IN_ORDER = _ACTIVE.order_by(_l.locked_until, _l.address, _l.entity_id)
_LOCK = insert(lockouts).inline()
_FAILED = insert(auth_failures).inline()
_COUNT_OF_ADDRESS = (
    select(func.count())
    .select_from(auth_failures)
    .where(_f.address == bindparam("the_address"), _f.failed_at > bindparam("since"))
)
_COUNT_OF_PAIR = _COUNT_OF_ADDRESS.where(_f.entity_id == bindparam("the_entity_id"))
_PURGE_FAILURES = delete(auth_failures).where(_f.failed_at <= bindparam("since"))
_PURGE_LOCKOUTS = delete(lockouts).where(_l.locked_until <= bindparam("since"))


def active_lockouts(batch: Batch, now: datetime) -> Lockouts:
    """Every lockout that has not ended."""
    rows = batch.connection.execute(_ACTIVE, {"now": to_micros(now)})
    return {(scope, address, entity_id): until for scope, address, entity_id, until in rows}


def list_lockouts(batch: Batch, now: datetime) -> Sequence[Lockout]:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.list_lockouts`."""
    return [
        Lockout(address=address, entity_id=entity_id if scope == _PAIR else None, locked_until=from_micros(until))
        for scope, address, entity_id, until in batch.connection.execute(_IN_ORDER, {"now": to_micros(now)})
    ]


def lift_lockout(batch: Batch, address: str, entity_id: str | None, event: Event) -> bool:
    """End a lockout at the event's moment; False when there is none.

    Its row stays: what led to a lockout has been paid for, also with one that was lifted.
    """
    scope = (_ADDRESS, address, "") if entity_id is None else (_PAIR, address, entity_id)
    if not batch.connection.execute(_LIFT, {**_names(scope), "now": to_micros(event.time)}).rowcount:
        return False
    batch.together(insert_events, event)
    return True


def count_failure(
    batch: Batch, address: str, entity_id: str, *, limits: LockoutLimits, now: datetime
) -> datetime | None:
    """Count one wrong secret; the end of the lockout when it was the last straw.

    What is locked already is not counted: attempts that were under way when a lockout began do not prolong it.
    """
    one_at_a_time(batch.connection, _LOCK_NUMBER)  # counted side by side, the last straws would not see each other
    now_micros = to_micros(now)
    window_start = now_micros - limits.failure_window_seconds * 1_000_000
    purged = {"since": window_start}
    batch.connection.execute(_PURGE_FAILURES, purged)
    batch.connection.execute(_PURGE_LOCKOUTS, purged)
    pair, whole = (_PAIR, address, entity_id), (_ADDRESS, address, "")
    earlier = {scope: _locked_until(batch, scope) for scope in (pair, whole)}
    if any(until > now_micros for until in earlier.values()):
        return None
    failure = {"address": address, "entity_id": entity_id, "failed_at": now_micros}
    batch.connection.execute(_FAILED, failure)
    until = now_micros + limits.lockout_seconds * 1_000_000
    locked = False
    for scope, statement, most in (
        (pair, _COUNT_OF_PAIR, limits.max_failures),
        (whole, _COUNT_OF_ADDRESS, limits.address_failures),
    ):
        # What led to an earlier lockout has been paid for with it; the moment when it ended counts again.
        counted = {"the_address": address, "the_entity_id": entity_id, "since": max(window_start, earlier[scope] - 1)}
        if (batch.connection.execute(statement, counted).scalar() or 0) >= most:
            _lock(batch, scope, until, known=earlier[scope] > 0)
            locked = True
    return from_micros(until) if locked else None


def _locked_until(batch: Batch, scope: tuple[str, str, str]) -> int:
    return batch.connection.execute(_UNTIL, _names(scope)).scalar() or 0


def _lock(batch: Batch, scope: tuple[str, str, str], until: int, *, known: bool) -> None:
    if known:
        batch.connection.execute(_EXTEND, {**_names(scope), "until": until})
    else:
        kind, address, entity_id = scope
        row = {"scope": kind, "address": address, "entity_id": entity_id, "locked_until": until}
        batch.connection.execute(_LOCK, row)


def _names(scope: tuple[str, str, str]) -> dict[str, Any]:
    kind, address, entity_id = scope
    return {"the_scope": kind, "the_address": address, "the_entity_id": entity_id}


class LockoutSnapshot:
    """The active lockouts as this process knows them: at most a second old, so that asking costs no query."""

    def __init__(self, read: Callable[[datetime], Awaitable[Lockouts]]) -> None:
        self._read = read
        self._lockouts: Lockouts = {}
        self._fresh_until = float("-inf")  # of time.monotonic()
        self._generation = 0

    async def locked_until(self, address: str, entity_id: str, now: datetime) -> datetime | None:
        """The end of the longest lockout of this pair or its address, or None."""
        if time.monotonic() >= self._fresh_until:
            await self.refresh(now)
        now_micros = to_micros(now)
        ends = (self._lockouts.get(scope, 0) for scope in ((_PAIR, address, entity_id), (_ADDRESS, address, "")))
        latest = max(ends)
        return from_micros(latest) if latest > now_micros else None

    async def refresh(self, now: datetime) -> None:
        """Read again. Who asks meanwhile is answered from the snapshot as it was."""
        generation = self._generation
        self._fresh_until = time.monotonic() + _REFRESH_SECONDS
        try:
            lockouts_now = await self._read(now)
        except BaseException:
            self.forget()  # not read: the next who asks has to
            raise
        if generation == self._generation:
            self._lockouts = lockouts_now

    def forget(self) -> None:
        """Have the next who asks read again: this process has changed something."""
        self._generation += 1
        self._fresh_until = float("-inf")
