"""Audit facts in the database."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from kipuka_core.edges.store.moments import to_micros
from kipuka_core.edges.store.tables import events
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.event import Event

_INSERT = insert(events).inline()
_NEWEST = select(events.c.body).order_by(events.c.id.desc()).limit(bindparam("limit"))


def insert_events(connection: Connection, items: list[Event]) -> None:
    """Record facts; a step of a batch."""
    connection.execute(_INSERT, [_row(event) for event in items])


def newest_events(batch: Batch, limit: int) -> list[dict[str, Any]]:
    """The bodies of the newest facts, newest first."""
    return [json.loads(body) for body in batch.connection.scalars(_NEWEST, {"limit": limit})]


def _row(event: Event) -> dict[str, Any]:
    return {
        "time": to_micros(event.time),
        "name": event.name,
        "actor": event.actor,
        "request_id": event.request_id,
        "label": event.label,
        "source_address": event.source_address,
        "body": json.dumps(event.as_dict(), ensure_ascii=False, separators=(",", ":")),
    }
