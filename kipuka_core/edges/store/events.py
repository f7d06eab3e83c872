"""Audit facts in the database."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, or_, select

from kipuka_core.edges.store.indexed import indexed
from kipuka_core.edges.store.moments import to_micros
from kipuka_core.edges.store.pages import newest_first
from kipuka_core.edges.store.tables import events
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.event import Event
from kipuka_core.model.search import EventQuery, Page, PageWanted

_INSERT = insert(events).inline()
_NEWEST = select(events.c.body).order_by(events.c.id.desc()).limit(bindparam("limit"))


def insert_events(connection: Connection, items: list[Event]) -> None:
    """Record facts; a step of a batch."""
    connection.execute(_INSERT, [_row(event) for event in items])


def newest_events(batch: Batch, limit: int) -> list[dict[str, Any]]:
    """The bodies of the newest facts, newest first."""
    return [json.loads(body) for body in batch.connection.scalars(_NEWEST, {"limit": limit})]


def page_of_events(batch: Batch, query: EventQuery, page: PageWanted) -> Page[dict[str, Any]]:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.page_of_events`."""
    found = select(events.c.body, events.c.time, events.c.id).where(*_wanted(query))
    rows, cursor, _ = newest_first(batch, found, events.c.time, events.c.id, page)
    count = select(func.count()).select_from(events).where(*_wanted(query))
    total = batch.connection.execute(count).scalar() or 0
    return Page(items=[json.loads(row.body) for row in rows], next=cursor, total=total)


def _wanted(query: EventQuery) -> list[ColumnElement[bool]]:
    columns, found = events.c, []
    if query.event is not None:
        found.append(columns.name == query.event)
    if query.actor is not None:
        found.append(columns.actor == indexed(query.actor))
    if query.since is not None:
        found.append(columns.time >= to_micros(query.since))
    if query.until is not None:
        found.append(columns.time < to_micros(query.until))
    if query.target is not None:
        serial = query.target.lower().replace(":", "").lstrip("0") or "0"
        others = ("subject", "entity_id", "otp_id", "request_id")
        found.append(or_(columns.serial == serial, *(columns[name] == indexed(query.target) for name in others)))
    return found


def _row(event: Event) -> dict[str, Any]:
    return {
        "time": to_micros(event.time),
        "name": event.name,
        "actor": indexed(event.actor),
        "request_id": event.request_id,
        "label": event.label,
        "source_address": event.source_address,
        **_targets(event),
        "body": json.dumps(event.as_dict(), ensure_ascii=False, separators=(",", ":")),
    }


def _targets(event: Event) -> dict[str, str | None]:
    """What it was done to. Of an enrolment, who asked."""
    found = {name: getattr(event, name, "") or None for name in ("serial", "subject", "entity_id", "otp_id")}
    if found["entity_id"] is None and hasattr(event, "authenticator"):
        found["entity_id"] = event.actor or None
    return {name: value and indexed(value) for name, value in found.items()}
