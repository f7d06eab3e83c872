"""One-time passwords, lockouts, requests and facts as administrators ask for them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import event

from kipuka_core.domain.admin.store import Lockout
from kipuka_core.domain.ports import LockoutLimits
from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store, schema
from kipuka_core.model.event import (
    CertificateRevoked,
    EnrolmentRefused,
    Event,
    LockoutLifted,
    OtpRevoked,
    OtpsRemoved,
)
from kipuka_core.model.record import RequestState
from kipuka_core.model.search import BadCursor, EventQuery, Page, PageWanted
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import (
    Clock,
    engine_behind,
    engine_of,
    issued_event,
    on_sqlite,
    otp,
    otp_event,
    record,
    reserve,
    waiting,
    waiting_event,
)

ItemT = TypeVar("ItemT")


async def walk(search: Callable[[PageWanted], Awaitable[Page[ItemT]]], limit: int = 2) -> list[ItemT]:
    found: list[ItemT] = []
    page = await search(PageWanted(limit=limit))
    found += page.items
    while page.next is not None:
        page = await search(PageWanted(limit=limit, after=page.next))
        found += page.items
    assert page.total == len(found)
    return found


# -- one-time passwords ------------------------------------------------------------------------------------------------
async def test_passwords_are_paged_newest_first_and_only_those_that_are_good(store: SqlStore) -> None:
    made = [
        otp(f"otp-{number}", entity_id=f"device-{number % 2}", created_at=NOW + timedelta(seconds=number // 2))
        for number in range(7)
    ]
    made.append(otp("expired", expires_at=NOW))
    made.append(otp("used", max_usage=2, usage_count=2))
    await store.add_otps(made, [otp_event(each.id) for each in made])
    await store.revoke_otp("otp-0", now=NOW, event=OtpRevoked(time=NOW, otp_id="otp-0"))

    everything = await walk(lambda page: store.page_of_otps(page, entity_id=None, usable_at=None))
    assert [each.id for each in everything][:6] == ["otp-6", "otp-5", "otp-4", "otp-3", "otp-2", "used"]
    assert {each.id for each in everything} == {each.id for each in made}
    usable = await walk(lambda page: store.page_of_otps(page, entity_id=None, usable_at=NOW))
    assert [each.id for each in usable] == ["otp-6", "otp-5", "otp-4", "otp-3", "otp-2", "otp-1"]
    of_one = await walk(lambda page: store.page_of_otps(page, entity_id="device-1", usable_at=NOW))
    assert [each.id for each in of_one] == ["otp-5", "otp-3", "otp-1"]
    assert len([fact for fact in await store.search_events() if fact["event"] == "otp_created"]) == len(made)


async def test_several_passwords_are_recorded_together_or_not_at_all(store: SqlStore) -> None:
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.add_otps([otp("a"), otp("b"), otp("a")], [otp_event(each) for each in "aba"])
    assert await store.list_otps() == []
    assert await store.search_events() == []


async def test_a_pattern_comes_back_with_its_password_and_with_its_request(store: SqlStore) -> None:
    await store.add_otp(otp(subject_pattern="{id}-x"), otp_event())
    found = await store.get_otp("otp-1")
    assert found is not None
    assert found.subject_pattern == "{id}-x"
    assert await store.get_otp("other") is None
    await reserve(store)
    request = waiting(otp_id="otp-1", subject_pattern="{id}-x")
    assert await store.remember(request, waiting_event()) == request
    assert await store.get_request("first") == request


async def test_only_what_ended_before_is_removed_and_never_what_is_reserved(store: SqlStore) -> None:
    for each in (
        otp("old", expires_at=NOW - timedelta(days=2)),
        otp("waits", expires_at=NOW - timedelta(days=2)),
        otp("young", expires_at=NOW - timedelta(hours=1)),
        otp("withdrawn", expires_at=NOW + timedelta(days=9)),
        otp("good"),
    ):
        await store.add_otp(each, otp_event(each.id))
    long_ago = NOW - timedelta(days=3)
    await store.revoke_otp("withdrawn", now=long_ago, event=OtpRevoked(time=long_ago, otp_id="withdrawn"))
    assert await store.reserve("waits", request_id="r", label="", csr_fingerprint="f", now=long_ago, lease_seconds=1000)
    fact = OtpsRemoved(time=NOW, actor="ana", ended_before="x")
    assert await store.remove_ended_otps(NOW - timedelta(days=1), fact) == 2
    assert {each.id for each in await store.list_otps()} == {"waits", "young", "good"}
    assert await store.remove_ended_otps(NOW - timedelta(days=1), fact) == 0
    names = [each["event"] for each in await store.search_events()]
    assert (names.count("otps_removed"), names.count("otp_created"), names.count("otp_revoked")) == (1, 5, 1)


# -- lockouts ----------------------------------------------------------------------------------------------------------
LIMITS = LockoutLimits(max_failures=2, failure_window_seconds=900, lockout_seconds=1800, address_failures=5)


async def fail(store: SqlStore, times: int, clock: Clock, entity: str = "device") -> list[bool]:
    return [
        await store.count_failure("192.0.2.1", entity, limits=LIMITS, now=clock.now) is not None for _ in range(times)
    ]


async def test_a_lockout_is_listed_and_lifted_and_what_led_to_it_is_paid_for(store: SqlStore, clock: Clock) -> None:
    assert await fail(store, 2, clock) == [False, True]
    until = NOW + timedelta(seconds=1800)
    assert await store.list_lockouts(NOW) == [Lockout(address="192.0.2.1", entity_id="device", locked_until=until)]
    now = clock.advance(seconds=1)
    fact = LockoutLifted(time=now, actor="ana", address="192.0.2.1", entity_id="device")
    for address, entity in (("192.0.2.1", None), ("192.0.2.1", "other"), ("192.0.2.2", "device")):
        assert not await store.lift_lockout(address, entity, fact)
    assert await store.locked_until("192.0.2.1", "device", now) == until
    assert await store.lift_lockout("192.0.2.1", "device", fact)
    assert await store.locked_until("192.0.2.1", "device", now) is None
    assert await store.list_lockouts(now) == []
    assert not await store.lift_lockout("192.0.2.1", "device", fact)
    clock.advance(seconds=1)
    assert await fail(store, 2, clock) == [False, True]
    assert [each["event"] for each in await store.search_events()] == ["lockout_lifted"]


async def test_a_whole_address_is_lifted_by_itself(store: SqlStore, clock: Clock) -> None:
    for entity in ("a", "b", "c", "d", "e"):
        await fail(store, 1, clock, entity)
    (locked,) = await store.list_lockouts(NOW)
    assert (locked.address, locked.entity_id) == ("192.0.2.1", None)
    assert await store.lift_lockout("192.0.2.1", None, LockoutLifted(time=NOW, address="192.0.2.1"))
    assert await store.locked_until("192.0.2.1", "a", NOW) is None


# -- requests ----------------------------------------------------------------------------------------------------------
async def test_requests_are_paged_by_state(store: SqlStore) -> None:
    for number in range(5):
        request = waiting(f"r{number}", key=f"k{number}", created_at=NOW + timedelta(seconds=number))
        await store.remember(request, waiting_event(request.id))
    await store.decide_request("r1", refused_because="no", event=waiting_event("r1"))
    open_ones = await walk(lambda page: store.page_of_requests(page, state=RequestState.WAITING))
    assert [each.id for each in open_ones] == ["r4", "r3", "r2", "r0"]
    refused = await walk(lambda page: store.page_of_requests(page, state=RequestState.REFUSED))
    assert [(each.id, each.reason) for each in refused] == [("r1", "no")]
    assert len(await walk(lambda page: store.page_of_requests(page, state=None))) == 5
    for cursor in ("x", ".", "", "99999999999999999999.a"):
        with pytest.raises(BadCursor):
            await store.page_of_requests(PageWanted(after=cursor), state=None)


# -- audit -------------------------------------------------------------------------------------------------------------
def facts() -> list[Event]:
    later = NOW + timedelta(hours=1)
    certificate = record("ab", entity_id="device", subject="CN=device", request_id="req-1")
    return [
        otp_event("otp-9"),
        issued_event(certificate),
        CertificateRevoked(time=later, actor="ana", serial="ab", ca_id="default"),
        EnrolmentRefused(time=later, actor="device", authenticator="otp", code="x", request_id="req-2"),
        EnrolmentRefused(time=later + timedelta(hours=1), code="y"),
    ]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["enrolment_refused", "enrolment_refused", "certificate_revoked", "certificate_issued", "otp_created"]),
        ({"event": "certificate_issued"}, ["certificate_issued"]),
        ({"actor": "ana"}, ["certificate_revoked"]),
        ({"target": "ab"}, ["certificate_revoked", "certificate_issued"]),
        ({"target": "00:AB"}, ["certificate_revoked", "certificate_issued"]),
        ({"target": "CN=device"}, ["certificate_issued"]),
        ({"target": "device"}, ["enrolment_refused", "certificate_issued", "otp_created"]),
        ({"target": "otp-9"}, ["otp_created"]),
        ({"target": "req-2"}, ["enrolment_refused"]),
        ({"target": "ana"}, []),
        ({"since": NOW + timedelta(hours=1)}, ["enrolment_refused", "enrolment_refused", "certificate_revoked"]),
        ({"until": NOW + timedelta(hours=1)}, ["certificate_issued", "otp_created"]),
        ({"event": "enrolment_refused", "until": NOW + timedelta(hours=2)}, ["enrolment_refused"]),
        ({"target": "device", "event": "otp_created"}, ["otp_created"]),
    ],
)
async def test_facts_are_found(store: SqlStore, query: dict[str, Any], names: list[str]) -> None:
    for each in facts():
        await store.add_event(each)
    found = await walk(lambda page: store.page_of_events(EventQuery(**query), page))
    assert [fact["event"] for fact in found] == names


QUERIES: list[dict[str, Any]] = [
    {"event": "x"},
    {"actor": "x"},
    {"target": "x"},
    {"since": NOW},
    {"until": NOW},
    {"since": NOW, "until": NOW},
    {"event": "x", "since": NOW},
    {"actor": "x", "until": NOW},
    {"target": "x", "event": "x"},
    {"target": "x", "since": NOW},
    {"event": "x", "actor": "x", "target": "x", "since": NOW, "until": NOW},
]


@pytest.mark.parametrize("query", QUERIES, ids="+".join)
@on_sqlite
async def test_no_search_for_facts_scans_the_table(store: SqlStore, url: str, query: dict[str, Any]) -> None:
    noted: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: Any) -> None:
        noted.append((statement, parameters))

    event.listen(engine_behind(store._read), "before_cursor_execute", note)
    await store.page_of_events(EventQuery(**query), PageWanted(after=f"{10**15}.5"))
    engine = engine_of(url)
    with engine.connect() as connection:
        lines = [
            row[3]
            for statement, parameters in noted
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    engine.dispose()
    assert lines
    assert [line for line in lines if line.startswith("SCAN events")] == [], lines


async def test_facts_from_before_the_migration_are_found_by_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = default_sqlite_url(tmp_path)
    with monkeypatch.context() as before:
        before.setattr(schema, "HEAD", "0001")
        async with open_store(url):
            pass
    file = tmp_path / "kipuka.db"
    with closing(sqlite3.connect(file)) as database:
        for each in facts():
            body = json.dumps(each.as_dict())
            database.execute(
                "INSERT INTO events (time, name, actor, request_id, label, source_address, body)"
                " VALUES (1, ?, ?, '', '', '', ?)",
                (each.name, each.actor, body),
            )
        database.execute(
            "INSERT INTO otps (id, token_hash, entity_id, created_at, expires_at, max_usage, usage_count)"
            " VALUES ('o', x'00', 'device', 1, 2, 1, 0)"
        )
        database.commit()
    async with open_store(url) as store:
        found = {}
        for target in ("ab", "CN=device", "device", "otp-9"):
            page = await store.page_of_events(EventQuery(target=target), PageWanted())
            found[target] = sorted(fact["event"] for fact in page.items)
        assert found == {
            "ab": ["certificate_issued", "certificate_revoked"],
            "CN=device": ["certificate_issued"],
            "device": ["certificate_issued", "enrolment_refused", "otp_created"],
            "otp-9": ["otp_created"],
        }
        (kept,) = await store.list_otps()
        assert kept.subject_pattern is None
