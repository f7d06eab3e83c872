"""The ends of audit chains: recorded together with whatever is written next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from kipuka_core.edges.log import get_logger
from kipuka_core.edges.store.moments import from_micros, to_micros
from kipuka_core.edges.store.tables import audit_heads
from kipuka_core.edges.store.writer import Batch
from kipuka_core.errors import StoreUnavailable, Unavailable
from kipuka_core.model.audit_chain import AuditHead

log = get_logger()

_INSERT = insert(audit_heads).inline()
_ADVANCE = (
    update(audit_heads)
    .where(audit_heads.c.writer == bindparam("its_writer"), audit_heads.c.seq < bindparam("its_seq"))
    .values(seq=bindparam("its_seq"), mac=bindparam("its_mac"), time=bindparam("its_time"))
)
_KNOWN = select(audit_heads.c.writer).where(audit_heads.c.writer == bindparam("its_writer"))
_ALL = select(audit_heads).order_by(audit_heads.c.time, audit_heads.c.writer)
_QUIET_SECONDS = 0.2
_AGAIN_SECONDS = 1.0


class Anchors:
    """The heads that are not recorded yet, the newest of each chain.

    Every transaction of the store takes them along, so they cost no fsync of their own where something is written
    anyway, and a certificate's record is never without the head that covers its audit line. Where nothing is written
    for a moment, ``write`` is called, which begins a transaction.
    """

    def __init__(self, write: Callable[[], Awaitable[None]]) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        self._pending: dict[str, AuditHead] = {}
        self._recorded: set[str] = set()  # the writers with a row
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def note(self, head: AuditHead) -> None:
        """Take a head to be recorded; on the event loop."""
        with self._lock:
            self._pending[head.writer] = head
        self._look_again(_QUIET_SECONDS)

    def take_along(self, connection: Connection) -> Callable[[], None]:
        """Write what is pending into a transaction; the result is to be called once that is durable."""
        with self._lock:
            taken = list(self._pending.values())
        for head in taken:
            _write_head(connection, head, is_known=head.writer in self._recorded)

        def is_durable() -> None:
            with self._lock:
                for head in taken:
                    self._recorded.add(head.writer)
                    if self._pending.get(head.writer) is head:
                        del self._pending[head.writer]

        return is_durable

    async def close(self) -> None:
        """Record what is left."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._write_pending()

    def _look_again(self, seconds: float) -> None:
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._pending:
            self._task = self._loop.create_task(self._write_pending())

    async def _write_pending(self) -> None:
        if not self._pending:
            return
        try:
            await self._write()
        except (StoreUnavailable, Unavailable) as error:
            log.error("the ends of audit chains are not recorded yet", problem=str(error))
            self._look_again(_AGAIN_SECONDS)


def all_heads(batch: Batch) -> Sequence[AuditHead]:
    """Every chain's end, oldest first."""
    return [_head(row) for row in batch.connection.execute(_ALL).mappings()]


def _write_head(connection: Connection, head: AuditHead, *, is_known: bool) -> None:
    its = {"its_writer": head.writer, "its_seq": head.seq, "its_mac": head.mac, "its_time": to_micros(head.time)}
    if is_known or connection.execute(_KNOWN, {"its_writer": head.writer}).first() is not None:
        connection.execute(_ADVANCE, its)
        return
    row = {"writer": head.writer, "key_id": head.key_id, "file": str(head.file), "seq": head.seq, "mac": head.mac}
    connection.execute(_INSERT, row | {"time": to_micros(head.time)})


def _head(row: Any) -> AuditHead:
    return AuditHead(
        writer=row["writer"],
        key_id=row["key_id"],
        file=Path(row["file"]),
        seq=row["seq"],
        mac=row["mac"],
        time=from_micros(row["time"]),
    )
