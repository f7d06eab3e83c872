"""Remembered requests: intents and those that wait for a decision (RFC 7030 4.2.3)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, case, delete, func, insert, or_, select, update

from kipuka_core.domain.ports import ReservationLost
from kipuka_core.edges.store.events import insert_events
from kipuka_core.edges.store.moments import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from kipuka_core.edges.store.one_time_passwords import keep_reservation, release_of_decided
from kipuka_core.edges.store.pages import newest_first
from kipuka_core.edges.store.tables import is_open, otp_reservations, requests
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.event import Event
from kipuka_core.model.record import AtCa, RecordedCertificate, RequestState, StoredRequest
from kipuka_core.model.search import Page, PageWanted
from kipuka_core.model.verdict import Wait

_FETCH_AGAIN = timedelta(minutes=10)  # for a client that lost the answer
_OPEN = (RequestState.INTENT, RequestState.WAITING, RequestState.PENDING)

_c = requests.c
_THIS_ONE = _c.id == bindparam("the_id")
_COLUMNS = select(requests)
_FIND = _COLUMNS.where(_c.key == bindparam("key")).order_by(_c.created_at.desc(), _c.id.desc()).limit(1)
_GET = _COLUMNS.where(_THIS_ONE)
# Open, or decided after the other one came in: the two were there at once, and one decision answers both.
_CONCURRENT = (
    _COLUMNS.where(_c.key == bindparam("key"), or_(is_open, _c.decided_at >= bindparam("created_at")))
    .order_by(_c.created_at.desc(), _c.id.desc())
    .limit(1)
)
_INSERT = insert(requests).inline()
_CHANGE = (
    update(requests)
    .where(_THIS_ONE, is_open)
    .values(
        state=bindparam("new_state"),
        reason=bindparam("new_reason"),
        retry_after_seconds=bindparam("new_retry_after_seconds"),
        has_waited=or_(_c.has_waited, bindparam("waits_now")),
    )
)
_AT_CA = ("ca_id", "template_der", "issuer_der", "asked_at", "ca_reference", "next_poll_at", "polls")
_ASK = update(requests).where(_THIS_ONE, is_open).values({name: bindparam(name) for name in _AT_CA})
_AT_ANY_CA = or_(_c.state == RequestState.INTENT.value, _c.state == RequestState.PENDING.value)
_NOTE = (
    update(requests)
    .where(_THIS_ONE, _AT_ANY_CA)
    .values(
        state=RequestState.PENDING.value,
        reason=bindparam("new_reason"),
        retry_after_seconds=bindparam("new_retry_after_seconds"),
        ca_reference=bindparam("new_reference"),
        next_poll_at=bindparam("new_next_poll_at"),
        has_waited=or_(_c.has_waited, bindparam("waits_now")),
    )
)
_ANSWERED = update(requests).where(_THIS_ONE, _AT_ANY_CA).values(certificate_der=bindparam("the_certificate_der"))
_POLL_AT = update(requests).where(_THIS_ONE, _AT_ANY_CA).values(next_poll_at=bindparam("new_next_poll_at"))
_DUE = (
    _COLUMNS.where(_c.next_poll_at <= bindparam("now"), _AT_ANY_CA)
    .order_by(_c.next_poll_at)
    .limit(bindparam("at_most"))
)
_CLAIM = (
    update(requests)
    .where(_THIS_ONE, _AT_ANY_CA, _c.next_poll_at == bindparam("was_due_at"))
    .values(next_poll_at=bindparam("lease_ends_at"), polls=_c.polls + 1)
)
_REFUSE = (
    update(requests)
    .where(_THIS_ONE, is_open)
    .values(state=RequestState.REFUSED.value, reason=bindparam("new_reason"), decided_at=bindparam("now"))
)
_KEPT_FOR = select(otp_reservations.c.kept_for).where(otp_reservations.c.request_id == bindparam("the_id"))
_ISSUE = (
    update(requests)
    .where(is_open, or_(_THIS_ONE, _c.id == _KEPT_FOR.scalar_subquery()))
    .values(
        state=RequestState.ISSUED.value,
        certificate_der=bindparam("the_certificate_der"),
        decided_at=bindparam("now"),
        # Who has not been sent away gets the certificate by the very connection that asked for it.
        # Not so one that somebody else has finished, after its connection was gone.
        fetched_at=case((and_(_c.has_waited.is_(False), func.coalesce(_c.polls, 0) == 0), bindparam("now"))),
    )
)
_IS_INTENT = _c.state == RequestState.INTENT.value
_WAIT_AGAIN = update(requests).where(_THIS_ONE, _IS_INTENT, _c.has_waited).values(state=RequestState.WAITING.value)
_INTENDED = select(_c.id).where(_THIS_ONE, _IS_INTENT)
_UNKEEP = delete(otp_reservations).where(otp_reservations.c.kept_for == bindparam("the_id"))
_FORGET = delete(requests).where(_THIS_ONE, _IS_INTENT)
_FORGET_REFUSED = delete(requests).where(_THIS_ONE, _c.state == RequestState.REFUSED.value)
_ANY = select(_c.id).limit(1)
_REFUSED = select(_c.id).where(_c.id.in_(bindparam("ids", expanding=True)), _c.state == RequestState.REFUSED.value)
_FETCHED = (
    update(requests)
    .where(_THIS_ONE, _c.state == RequestState.ISSUED.value, _c.fetched_at.is_(None))
    .values(fetched_at=bindparam("now"))
)


def find_request(batch: Batch, key: str, now: datetime) -> StoredRequest | None:
    """The newest request with this key; None when its certificate was first fetched ten minutes ago or more.

    A refused one is found: its refusal answers the repeated request too.
    """
    row = batch.connection.execute(_FIND, {"key": key}).first()
    if row is None or (row.fetched_at is not None and row.fetched_at <= to_micros(now - _FETCH_AGAIN)):
        return None
    return _from_row(row)


def get_request(batch: Batch, request_id: str) -> StoredRequest | None:
    """One request by its id."""
    row = batch.connection.execute(_GET, {"the_id": request_id}).first()
    return None if row is None else _from_row(row)


def page_of_requests(batch: Batch, page: PageWanted, *, state: RequestState | None) -> Page[StoredRequest]:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.page_of_requests`."""
    wanted = _COLUMNS if state is None else _COLUMNS.where(_c.state == state.value)
    rows, cursor, total = newest_first(batch, wanted, _c.created_at, _c.id, page)
    return Page(items=[_from_row(row) for row in rows], next=cursor, total=total)


def remember(batch: Batch, request: StoredRequest, event: Event | None) -> StoredRequest:
    """Record a request, or move its open row on (intent to waiting and back); keep its reservation.

    Returns what is in the database: another request's row when that was there first, with nothing recorded.
    """
    mine = get_request(batch, request.id)
    if mine is not None:
        if mine.state not in _OPEN:
            return mine
        batch.connection.execute(
            _CHANGE,
            {
                "the_id": request.id,
                "new_state": request.state.value,
                "new_reason": request.reason or mine.reason,
                "waits_now": request.state is RequestState.WAITING,
                "new_retry_after_seconds": request.retry_after_seconds,
            },
        )
        if request.at_ca is not None:
            batch.connection.execute(_ASK, {"the_id": request.id} | _at_ca_columns(request.at_ca))
    else:
        concurrent = {"key": request.key, "created_at": to_micros(request.created_at)}
        first = batch.connection.execute(_CONCURRENT, concurrent).first()
        if first is not None:
            return _from_row(first)
        batch.connection.execute(_INSERT, _to_row(request))
        keep_reservation(batch, request.id)
    if event is not None:
        batch.together(insert_events, event)
    return get_request(batch, request.id) or request


def withdraw_intent(batch: Batch, request_id: str) -> None:
    """Undo :func:`remember` of an intent; its reservation goes, unless the request had waited before."""
    this_one = {"the_id": request_id}
    if batch.connection.execute(_WAIT_AGAIN, this_one).rowcount:
        return
    if batch.connection.execute(_INTENDED, this_one).first() is not None:
        batch.connection.execute(_UNKEEP, this_one)
        batch.connection.execute(_FORGET, this_one)


def note_pending(
    batch: Batch, request_id: str, *, wait: Wait, next_poll_at: datetime, retry_after_seconds: int, event: Event | None
) -> None:
    """The CA has it and has said what it knows it by. ``event``: the client is sent away."""
    noted = {
        "the_id": request_id,
        "new_reason": wait.reason,
        "new_retry_after_seconds": retry_after_seconds,
        "new_reference": wait.reference,
        "new_next_poll_at": to_micros(next_poll_at),
        "waits_now": event is not None,
    }
    if batch.connection.execute(_NOTE, noted).rowcount:
        keep_reservation(batch, request_id)
        if event is not None:
            batch.together(insert_events, event)


def keep_answer(batch: Batch, request_id: str, certificate_der: bytes) -> None:
    """The certificate is there, and nobody may have it yet."""
    batch.connection.execute(_ANSWERED, {"the_id": request_id, "the_certificate_der": certificate_der})


def poll_at(batch: Batch, request_id: str, moment: datetime | None, event: Event | None) -> None:
    """When somebody looks after it next; None: a person has to."""
    changed = {"the_id": request_id, "new_next_poll_at": to_micros_or_none(moment)}
    if batch.connection.execute(_POLL_AT, changed).rowcount and event is not None:
        batch.together(insert_events, event)


def claim_polls(batch: Batch, *, now: datetime, lease: timedelta, at_most: int) -> list[StoredRequest]:
    """Those that are due, for this process alone until the lease ends."""
    ends = to_micros(now + lease)
    claimed = []
    for row in batch.connection.execute(_DUE, {"now": to_micros(now), "at_most": at_most}).all():
        mine = {"the_id": row.id, "was_due_at": row.next_poll_at, "lease_ends_at": ends}
        if batch.connection.execute(_CLAIM, mine).rowcount:
            claimed.append(_from_row(row))
    return claimed


def forget_refused(batch: Batch, request_id: str) -> bool:
    """Whether there was a refused request with this id; its client may ask anew now."""
    return batch.connection.execute(_FORGET_REFUSED, {"the_id": request_id}).rowcount == 1


def decide_request(batch: Batch, request_id: str, *, refused_because: str, event: Event) -> None:
    """Close an open request as refused; one that is decided stays as it is, and no event says otherwise."""
    refusal = {"the_id": request_id, "new_reason": refused_because, "now": to_micros(event.time)}
    if batch.connection.execute(_REFUSE, refusal).rowcount:
        release_of_decided(batch, request_id)
        batch.together(insert_events, event)


def mark_fetched(batch: Batch, request_id: str, now: datetime) -> None:
    """Note when the certificate of an issued request was first fetched."""
    batch.connection.execute(_FETCHED, {"the_id": request_id, "now": to_micros(now)})


def close_as_issued(connection: Connection, items: list[tuple[RecordedCertificate, datetime]]) -> None:
    """Close the open requests that these certificates answer, each at its moment.

    That is the row of the committing request's own id, and the row that its reservation was kept for when the client
    has asked again under another id. Runs before the reservations are consumed. Raises ReservationLost when one of the
    requests was refused in the meantime.
    """
    if connection.execute(_ANY).first() is None:
        return  # where nothing ever waits and no CA is external, this is all that a commit asks
    if connection.execute(_REFUSED, {"ids": [record.request_id for record, _ in items]}).first() is not None:
        raise ReservationLost("the request was refused in the meantime")
    connection.execute(
        _ISSUE,
        [
            {
                "the_id": record.request_id,
                "the_certificate_der": record.certificate_der,
                "now": to_micros(now),
            }
            for record, now in items
        ],
    )


def _to_row(request: StoredRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "key": request.key,
        "state": request.state.value,
        "operation": str(request.operation),
        "label": request.label,
        "entity_id": request.entity_id,
        "authenticator": request.authenticator,
        "names": json.dumps(request.names, ensure_ascii=False),
        "csr_der": request.csr_der,
        "client_certificate_der": request.client_certificate_der,
        "otp_id": request.otp_id,
        "subject_pattern": request.subject_pattern,
        "reason": request.reason,
        "retry_after_seconds": request.retry_after_seconds,
        "source_address": request.source_address,
        "tls_version": request.tls_version,
        "created_at": to_micros(request.created_at),
        "decided_at": to_micros_or_none(request.decided_at),
        "certificate_der": request.certificate_der,
        "has_waited": request.state is RequestState.WAITING,
        "fetched_at": None,
    } | _at_ca_columns(request.at_ca)


def _from_row(row: Row[Any]) -> StoredRequest:
    values = row._asdict()
    del values["has_waited"], values["fetched_at"]
    at_ca = _at_ca(values)
    return StoredRequest(
        **values
        | {
            "state": RequestState(values["state"]),
            "names": tuple(json.loads(values["names"])),
            "created_at": from_micros(values["created_at"]),
            "decided_at": from_micros_or_none(values["decided_at"]),
            "at_ca": at_ca,
        }
    )


def _at_ca(values: dict[str, Any]) -> AtCa | None:
    """Takes its columns out of a row."""
    found = {name: values.pop(name) for name in _AT_CA}
    if found["ca_id"] is None:
        return None
    return AtCa(
        ca_id=found["ca_id"],
        template_der=found["template_der"],
        issuer_der=found["issuer_der"],
        asked_at=from_micros(found["asked_at"]),
        reference=found["ca_reference"],
        next_poll_at=from_micros_or_none(found["next_poll_at"]),
        polls=found["polls"],
    )


def _at_ca_columns(at_ca: AtCa | None) -> dict[str, Any]:
    if at_ca is None:
        return dict.fromkeys(_AT_CA)
    return {
        "ca_id": at_ca.ca_id,
        "template_der": at_ca.template_der,
        "issuer_der": at_ca.issuer_der,
        "asked_at": to_micros(at_ca.asked_at),
        "ca_reference": at_ca.reference,
        "next_poll_at": to_micros_or_none(at_ca.next_poll_at),
        "polls": at_ca.polls,
    }
