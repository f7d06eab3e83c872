"""Old records: which ones, in what form, deleted with all that hangs on them; a job that one process does."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listens_for

from kipuka_core.edges.store import OldKind, SqlStore, open_store
from kipuka_core.model.record import RequestState
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import (
    ISSUER,
    Clock,
    engine_behind,
    issued_event,
    on_sqlite,
    otp,
    otp_event,
    record,
    rejected_event,
    reserve,
    waiting,
    waiting_event,
)

DAY = timedelta(days=1)


async def commit(store: SqlStore, serial_hex: str, **fields: object) -> None:
    certificate = record(serial_hex, **fields)
    await store.commit(certificate, issued_event(certificate))


async def keys(store: SqlStore, kind: OldKind, limit: int = 100) -> list[object]:
    return [row.key for row in await store.old_rows(kind, NOW, limit)]


async def test_certificates_that_ended_long_ago_are_found_oldest_first(store: SqlStore) -> None:
    await commit(store, "1", not_after=NOW - DAY, not_before=NOW - 9 * DAY)
    await commit(store, "2", not_after=NOW - 3 * DAY)
    await commit(store, "3", not_after=NOW + DAY)
    await commit(store, "4", not_after=NOW)
    found = await store.old_rows(OldKind.CERTIFICATES, NOW, 100)
    assert [row.fields["serial_hex"] for row in found] == ["2", "1"]
    assert [row.fields["serial_hex"] for row in await store.old_rows(OldKind.CERTIFICATES, NOW, 1)] == ["2"]
    fields = found[1].fields
    assert fields["not_after"] == (NOW - DAY).isoformat()
    assert b64decode(fields["certificate_der"]) == b"certificate 1"
    assert "revoked_at" not in fields


async def test_a_deleted_certificate_leaves_no_names_behind(store: SqlStore) -> None:
    await commit(store, "1", not_after=NOW - DAY)
    await commit(store, "2", not_after=NOW + DAY)
    await store.delete_rows(OldKind.CERTIFICATES, await keys(store, OldKind.CERTIFICATES))
    assert await store.find_certificate(ISSUER, "1") is None
    assert await store.find_certificate(ISSUER, "2") is not None
    with engine_behind(store._read).connect() as connection:
        assert connection.execute(text("SELECT DISTINCT certificate_id FROM certificate_names")).all() == [(2,)]


async def test_passwords_that_are_reserved_stay_and_no_hash_is_archived(store: SqlStore) -> None:
    for otp_id in ("old", "reserved"):
        await store.add_otp(otp(otp_id, expires_at=NOW + DAY), otp_event(otp_id))
    await reserve(store, "request", otp_id="reserved")
    rows = await store.old_rows(OldKind.OTPS, NOW + 2 * DAY, 100)
    assert [row.key for row in rows] == ["old"]
    assert "token_hash" not in rows[0].fields
    await store.delete_rows(OldKind.OTPS, ["old"])
    assert [each.id for each in await store.list_otps()] == ["reserved"]


async def test_requests_that_are_open_stay(store: SqlStore, clock: Clock) -> None:
    await store.remember(waiting("open", key="a"), waiting_event("open"))
    await store.remember(waiting("closed", key="b"), waiting_event("closed"))
    await store.decide_request("closed", refused_because="no", event=rejected_event("closed"))
    clock.advance(days=1)
    rows = await store.old_rows(OldKind.REQUESTS, clock.now, 100)
    assert [(row.key, row.fields["state"]) for row in rows] == [("closed", RequestState.REFUSED.value)]
    await store.delete_rows(OldKind.REQUESTS, ["closed"])
    assert await store.get_request("closed") is None
    assert await store.get_request("open") is not None


async def test_events_are_deleted_by_their_time(store: SqlStore) -> None:
    await store.add_event(waiting_event())
    assert await keys(store, OldKind.EVENTS) == []
    rows = await store.old_rows(OldKind.EVENTS, NOW + DAY, 100)
    assert rows[0].fields["name"] == "enrolment_waiting"
    await store.delete_rows(OldKind.EVENTS, [row.key for row in rows])
    assert await store.search_events() == []


async def test_a_job_that_is_due_is_done_by_one_process(store: SqlStore, url: str) -> None:
    async with open_store(url) as other:
        claims = await asyncio.gather(*(each.claim_job("retention", NOW, DAY) for each in (store, other) * 8))
        assert sorted(claims) == [False] * 15 + [True]
        assert not await other.claim_job("retention", NOW + DAY - timedelta(seconds=1), DAY)
        assert await other.claim_job("retention", NOW + DAY, DAY)
        assert not await store.claim_job("unknown", NOW, DAY)


@pytest.mark.parametrize("kind", list(OldKind))
@on_sqlite
async def test_what_is_old_is_found_by_an_index(store: SqlStore, kind: OldKind) -> None:
    asked: list[tuple[str, Any]] = []
    engine = engine_behind(store._read)

    @listens_for(engine, "before_cursor_execute")
    def seen(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    await store.old_rows(kind, NOW, 500)
    statement, parameters = asked[0]
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    steps = [str(row[3]) for row in plan]
    assert any(step.startswith(f"SEARCH {kind.value} USING INDEX") for step in steps), steps
