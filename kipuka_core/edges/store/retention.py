"""What is over and old: found in chunks, and deleted once it has been archived."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, bindparam, delete, not_, select, update

from kipuka_core.edges.store.moments import from_micros, to_micros
from kipuka_core.edges.store.tables import (
    certificate_names,
    certificates,
    events,
    is_open,
    jobs,
    otp_reservations,
    otps,
    requests,
)
from kipuka_core.edges.store.writer import Batch


class OldKind(StrEnum):
    """What can be archived, by the name that its setting and its files have."""

    CERTIFICATES = "certificates"
    REQUESTS = "requests"
    OTPS = "otps"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class OldRow:
    """A row with its key, as JSON: moments in RFC 3339, bytes in base64."""

    key: Any
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Source:
    table: Table
    ended_at: Any
    """The column that says when a row was over."""
    is_over: ColumnElement[bool] | None = None
    left_out: str = ""
    """A column that is of no use to a reader of archives."""
    before_delete: Callable[[Batch, Sequence[Any]], None] = lambda _batch, _keys: None


def _delete_names(batch: Batch, ids: Sequence[Any]) -> None:
    batch.connection.execute(delete(certificate_names).where(certificate_names.c.certificate_id.in_(ids)))


_SOURCES: dict[OldKind, _Source] = {
    OldKind.CERTIFICATES: _Source(certificates, certificates.c.not_after, before_delete=_delete_names),
    OldKind.REQUESTS: _Source(
        requests,
        requests.c.decided_at,
        and_(
            not_(is_open),
            requests.c.id.not_in(select(otp_reservations.c.kept_for).where(otp_reservations.c.kept_for.is_not(None))),
        ),
    ),
    OldKind.OTPS: _Source(
        otps, otps.c.expires_at, otps.c.id.not_in(select(otp_reservations.c.otp_id)), left_out="token_hash"
    ),
    OldKind.EVENTS: _Source(events, events.c.time),
}
_MOMENTS = frozenset(
    {
        "not_before",
        "not_after",
        "issued_at",
        "revoked_at",
        "created_at",
        "decided_at",
        "fetched_at",
        "expires_at",
        "time",
    }
)
_CLAIM = (
    update(jobs)
    .where(jobs.c.name == bindparam("the_name"), jobs.c.due_at <= bindparam("now"))
    .values(due_at=bindparam("next"))
)


def old_rows(batch: Batch, kind: OldKind, before: datetime, limit: int) -> list[OldRow]:
    """The oldest rows that were over before this moment."""
    source = _SOURCES[kind]
    wanted = [source.ended_at < to_micros(before)]
    if source.is_over is not None:
        wanted.append(source.is_over)
    query = select(source.table).where(*wanted).order_by(source.ended_at, source.table.c.id).limit(limit)
    return [_as_json(row, source) for row in batch.connection.execute(query)]


def delete_rows(batch: Batch, kind: OldKind, keys: Sequence[Any]) -> None:
    """Forget rows that have been archived."""
    source = _SOURCES[kind]
    source.before_delete(batch, keys)
    batch.connection.execute(delete(source.table).where(source.table.c.id.in_(keys)))


def claim_job(batch: Batch, name: str, now: datetime, interval: timedelta) -> bool:
    """Whether the job is due, and this process shall do it: nobody else will before the interval has passed."""
    claimed = batch.connection.execute(
        _CLAIM, {"the_name": name, "now": to_micros(now), "next": to_micros(now + interval)}
    )
    return claimed.rowcount == 1


def _as_json(row: Row[Any], source: _Source) -> OldRow:
    values = row._asdict()
    values.pop(source.left_out, None)
    return OldRow(values["id"], {name: _json_value(name, value) for name, value in values.items() if value is not None})


def _json_value(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return from_micros(value).isoformat() if name in _MOMENTS else value
