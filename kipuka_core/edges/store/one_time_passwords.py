"""One-time passwords and their reservations: used up exactly once, and only by an enrolment that succeeded.

A reservation counts against ``max_usage`` like a use. It has a lease, and is kept past it while a remembered request
waits. Committing a certificate turns exactly its own reservation into a use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, exists, insert, or_, select, update

from kipuka_core.domain.ports import ReservationLost
from kipuka_core.edges.store.events import insert_events
from kipuka_core.edges.store.moments import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from kipuka_core.edges.store.owner import died_here
from kipuka_core.edges.store.pages import newest_first
from kipuka_core.edges.store.tables import is_open, otp_reservations, otps, requests
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.event import Event
from kipuka_core.model.record import OneTimePassword, RecordedCertificate, Reservation
from kipuka_core.model.search import Page, PageWanted

_o = otps.c
_r = otp_reservations.c
_COLUMNS = select(otps)
_BY_TOKEN = _COLUMNS.where(_o.token_hash == bindparam("token_hash"))
# Locked until the transaction ends where transactions run side by side; SQLite has one writer and renders nothing.
_FOR_RESERVING = _COLUMNS.where(_o.id == bindparam("the_otp_id")).with_for_update()
_LOCK = select(_o.id).where(_o.id.in_(bindparam("ids", expanding=True))).order_by(_o.id).with_for_update()
_BY_ID = _COLUMNS.where(_o.id == bindparam("the_otp_id"))
_REMOVE_ENDED = delete(otps).where(
    or_(_o.expires_at < bindparam("before"), _o.revoked_at < bindparam("before")),
    ~exists().where(otp_reservations.c.otp_id == _o.id),
)
_ALL = _COLUMNS.order_by(_o.created_at.desc(), _o.id.desc())
_KNOWN_ENTITY = select(_o.id).where(_o.entity_id == bindparam("entity_id")).limit(1)
_INSERT = insert(otps).inline()
_REVOKE = (
    update(otps).where(_o.id == bindparam("the_otp_id"), _o.revoked_at.is_(None)).values(revoked_at=bindparam("now"))
)
_COUNT_USE = (
    update(otps)
    .where(_o.id == bindparam("the_otp_id"), _o.usage_count < _o.max_usage, _o.revoked_at.is_(None))
    .values(usage_count=_o.usage_count + 1)
)

_THIS_OTP = _r.otp_id == bindparam("the_otp_id")
_EXPIRED = _r.lease_expires_at <= bindparam("now")
_RESERVE = insert(otp_reservations).inline()
# Of one password, and where kept: the label and state of the remembered request.
_RESERVED = (
    select(_r.request_id, _r.csr_fingerprint, _r.lease_expires_at, requests.c.label, is_open.label("is_open"))
    .outerjoin(requests, requests.c.id == _r.kept_for)
    .where(_THIS_OTP)
)
_MOVE = (
    update(otp_reservations)
    .where(_r.request_id == bindparam("old_request_id"))
    .values(request_id=bindparam("new_request_id"), owner=bindparam("new_owner"))
)
_DROP_EXPIRED_OF_OTP = delete(otp_reservations).where(_THIS_OTP, _EXPIRED)
_DROP_OF_OTP = delete(otp_reservations).where(_THIS_OTP)
_DROP_LEASED = delete(otp_reservations).where(_r.request_id == bindparam("the_request_id"), _r.kept_for.is_(None))
_IS_OF_REQUEST = or_(_r.request_id == bindparam("the_request_id"), _r.kept_for == bindparam("the_request_id"))
_DROP_OF_REQUEST = delete(otp_reservations).where(_IS_OF_REQUEST)
_CONSUME = delete(otp_reservations).where(_THIS_OTP, _IS_OF_REQUEST)
_KEEP = (
    update(otp_reservations)
    .where(_r.request_id == bindparam("the_request_id"))
    .values(lease_expires_at=None, kept_for=bindparam("the_request_id"))
)
_LEASED = select(_r.request_id, _r.owner).where(_r.kept_for.is_(None))
_DROP_EXPIRED = delete(otp_reservations).where(_EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveRequest:
    """One use of one password, wanted by one request."""

    otp_id: str
    request_id: str
    label: str
    csr_fingerprint: str
    now: datetime
    lease_seconds: int
    owner: str


def lock_passwords(connection: Connection, otp_ids: Sequence[str]) -> None:
    """Lock what the jobs of a batch will lock, all at once and in order.

    Two processes that lock the same rows in another order stop each other.
    """
    connection.execute(_LOCK, {"ids": otp_ids})


def reserve(batch: Batch, wanted: ReserveRequest) -> Reservation:
    """Reserve one use, atomically: uses and live reservations together never exceed ``max_usage``."""
    row = batch.connection.execute(_FOR_RESERVING, {"the_otp_id": wanted.otp_id}).first()
    if row is None:
        return Reservation.UNKNOWN
    if row.revoked_at is not None:
        return Reservation.REVOKED
    if row.label is not None and row.label != wanted.label:
        return Reservation.OTHER_LABEL
    reserved = batch.connection.execute(_RESERVED, {"the_otp_id": wanted.otp_id}).all()
    for other in reserved:
        # Also past the password's expiry: a request that waits keeps what it has.
        if other.is_open and other.csr_fingerprint == wanted.csr_fingerprint and other.label == wanted.label:
            _take_over(batch, wanted, other.request_id)
            return Reservation.RESERVED
    return _reserve_anew(batch, wanted, row, reserved)


def _take_over(batch: Batch, wanted: ReserveRequest, request_id: str) -> None:
    """Move the reservation that waits with this very CSR at this label to the request that repeats it."""
    names = {"old_request_id": request_id, "new_request_id": wanted.request_id, "new_owner": wanted.owner}
    batch.connection.execute(_MOVE, names)


def _reserve_anew(batch: Batch, wanted: ReserveRequest, row: Row[Any], reserved: Sequence[Row[Any]]) -> Reservation:
    now = to_micros(wanted.now)
    if row.usage_count >= row.max_usage:
        return Reservation.USED
    if row.expires_at <= now:
        return Reservation.EXPIRED
    live = [other for other in reserved if other.lease_expires_at is None or other.lease_expires_at > now]
    if len(live) < len(reserved):
        # Gone, not only not counted: a late commit of one of them must not succeed beside the one that takes its place.
        batch.connection.execute(_DROP_EXPIRED_OF_OTP, {"the_otp_id": wanted.otp_id, "now": now})
    if any(other.request_id == wanted.request_id for other in live):
        return Reservation.RESERVED
    if row.usage_count + len(live) >= row.max_usage:
        return Reservation.BUSY
    batch.connection.execute(
        _RESERVE,
        {
            "request_id": wanted.request_id,
            "otp_id": wanted.otp_id,
            "csr_fingerprint": wanted.csr_fingerprint,
            "owner": wanted.owner,
            "lease_expires_at": now + wanted.lease_seconds * 1_000_000,
            "kept_for": None,
        },
    )
    return Reservation.RESERVED


def release(batch: Batch, request_id: str) -> None:
    """Give a leased reservation back; one that is kept for a waiting request stays."""
    batch.connection.execute(_DROP_LEASED, {"the_request_id": request_id})


def release_of_decided(batch: Batch, request_id: str) -> None:
    """Give the reservation of a remembered request back, under whatever id its client asked last."""
    batch.connection.execute(_DROP_OF_REQUEST, {"the_request_id": request_id})


def keep_reservation(batch: Batch, request_id: str) -> None:
    """Keep the reservation of a request that is remembered now: it has no lease any more."""
    batch.connection.execute(_KEEP, {"the_request_id": request_id})


def consume_reservations(connection: Connection, records: list[RecordedCertificate]) -> None:
    """Turn the reservation of each record into a use. Raises ReservationLost when one is not there any more."""
    if not records:
        return
    # The passwords before their reservations, as everywhere (:func:`lock_passwords`).
    uses = [{"the_otp_id": record.otp_id} for record in records]
    if connection.execute(_COUNT_USE, uses).rowcount != len(records):
        raise ReservationLost("the one-time password was withdrawn or used up")
    mine = [{"the_otp_id": record.otp_id, "the_request_id": record.request_id} for record in records]
    if connection.execute(_CONSUME, mine).rowcount != len(records):
        raise ReservationLost("the reservation of the one-time password is gone")


def reconcile(batch: Batch, now: datetime) -> None:
    """Drop the leases that ran out and those of processes of this host that died; kept reservations stay."""
    batch.connection.execute(_DROP_EXPIRED, {"now": to_micros(now)})
    for row in batch.connection.execute(_LEASED).all():
        if died_here(row.owner):
            release(batch, row.request_id)


def add_otp(batch: Batch, otp: OneTimePassword, event: Event) -> None:
    """Record a new one-time password and its event."""
    batch.connection.execute(_INSERT, _to_row(otp))
    batch.together(insert_events, event)


def add_otps(batch: Batch, otps: Sequence[OneTimePassword], events: Sequence[Event]) -> None:
    """Record several new one-time passwords with their events."""
    batch.connection.execute(_INSERT, [_to_row(otp) for otp in otps])
    for event in events:
        batch.together(insert_events, event)


def page_of_otps(
    batch: Batch, page: PageWanted, *, entity_id: str | None, usable_at: datetime | None
) -> Page[OneTimePassword]:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.page_of_otps`."""
    wanted: list[ColumnElement[bool]] = []
    if entity_id is not None:
        wanted.append(_o.entity_id == entity_id)
    if usable_at is not None:
        wanted += [
            _o.revoked_at.is_(None),
            _o.usage_count < _o.max_usage,
            _o.expires_at > to_micros(usable_at),
        ]
    rows, cursor, total = newest_first(batch, _COLUMNS.where(*wanted), _o.created_at, _o.id, page)
    return Page(items=[_from_row(row) for row in rows], next=cursor, total=total)


def get_otp(batch: Batch, otp_id: str) -> OneTimePassword | None:
    """One by its id."""
    row = batch.connection.execute(_BY_ID, {"the_otp_id": otp_id}).first()
    return None if row is None else _from_row(row)


def remove_ended_otps(batch: Batch, ended_before: datetime, event: Event) -> int:
    """Remove those that expired or were withdrawn before, unless they are reserved; the event only if any were."""
    removed = batch.connection.execute(_REMOVE_ENDED, {"before": to_micros(ended_before)}).rowcount
    if removed:
        batch.together(insert_events, event)
    return removed


def find_otp(batch: Batch, token_hash: bytes) -> OneTimePassword | None:
    """A password by the hash of its token."""
    row = batch.connection.execute(_BY_TOKEN, {"token_hash": token_hash}).first()
    return None if row is None else _from_row(row)


def knows_otp_entity(batch: Batch, entity_id: str) -> bool:
    """Whether any password was ever made for this entity."""
    return batch.connection.execute(_KNOWN_ENTITY, {"entity_id": entity_id}).first() is not None


def list_otps(batch: Batch) -> Sequence[OneTimePassword]:
    """All of them, newest first."""
    return [_from_row(row) for row in batch.connection.execute(_ALL)]


def revoke_otp(batch: Batch, otp_id: str, *, now: datetime, event: Event) -> bool:
    """Withdraw a password and all its reservations; False when there is no such id."""
    names = {"the_otp_id": otp_id}
    if batch.connection.execute(_REVOKE, {**names, "now": to_micros(now)}).rowcount:
        batch.connection.execute(_DROP_OF_OTP, names)
        batch.together(insert_events, event)
        return True
    return batch.connection.execute(_FOR_RESERVING, names).first() is not None


def _to_row(otp: OneTimePassword) -> dict[str, Any]:
    return {
        "id": otp.id,
        "token_hash": otp.token_hash,
        "entity_id": otp.entity_id,
        "label": otp.label,
        "created_at": to_micros(otp.created_at),
        "expires_at": to_micros(otp.expires_at),
        "max_usage": otp.max_usage,
        "usage_count": otp.usage_count,
        "revoked_at": to_micros_or_none(otp.revoked_at),
        "subject_pattern": otp.subject_pattern,
    }


def _from_row(row: Row[Any]) -> OneTimePassword:
    values = row._asdict()
    return OneTimePassword(
        **values
        | {
            "created_at": from_micros(values["created_at"]),
            "expires_at": from_micros(values["expires_at"]),
            "revoked_at": from_micros_or_none(values["revoked_at"]),
        }
    )
