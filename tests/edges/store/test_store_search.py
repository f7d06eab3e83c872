"""Searching certificates: every combination of filters finds what it should, page by page, and reads no more."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store
from kipuka_core.edges.store.certificates import searchable_names
from kipuka_core.model.event import CertificateReleased, CertificateRevoked
from kipuka_core.model.record import CertificateStatus, RecordedCertificate
from kipuka_core.model.search import BadCursor, CertificateQuery, PageWanted, SearchStatus
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import DATABASES, ISSUER, Clock, engine_behind, issued_event, record

FILTERS: dict[str, list[Any]] = {
    "ca_id": ["default", "second"],
    "status": list(SearchStatus),
    "subject": ["pump-7", "pump-1*", "*", "nobody"],
    "serial_hex": ["1f"],
    "identity": ["pump-3", "fleet"],
    "label": ["", "factory"],
    "expires_before": [NOW + timedelta(days=40)],
    "expires_after": [NOW - timedelta(days=10)],
}


SHAPES = {name: values if name == "status" else values[:1] for name, values in FILTERS.items()}
SHAPES["subject"] = ["pump-7", "pump-1*"]
"""One value for each statement that a filter can make."""


def combinations(most: int, of: dict[str, list[Any]] = FILTERS) -> Iterator[dict[str, Any]]:
    """Every combination of up to ``most`` filters, each with every of its values."""
    for count in range(most + 1):
        for names in itertools.combinations(of, count):
            for values in itertools.product(*(of[name] for name in names)):
                yield dict(zip(names, values, strict=True))


def samples(random_source: random.Random) -> list[RecordedCertificate]:
    found = []
    for number in range(1, 161):
        entity = "fleet" if number % 20 == 0 else f"pump-{number % 40}"
        status = random_source.choice([CertificateStatus.ACTIVE, CertificateStatus.ACTIVE, CertificateStatus.REVOKED])
        revoked = status is CertificateStatus.REVOKED
        found.append(
            record(
                f"{number:x}",
                ca_id=random_source.choice(["default", "default", "second"]),
                label=random_source.choice(["", "factory"]),
                entity_id=entity,
                subject=f"CN={entity.upper()},O=Example",
                sans=(f"dns:{entity}.example", f"dns:pump-1{number % 7}.example"),
                issued_at=NOW - timedelta(minutes=random_source.randrange(10_000)),
                not_after=NOW + timedelta(days=random_source.randrange(-60, 300)),
                status=status,
                revoked_at=NOW if revoked else None,
                revocation_reason=random_source.choice([1, 6]) if revoked else None,
            )
        )
    return found


@pytest.fixture(scope="module", params=DATABASES)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[RecordedCertificate]]]:
    with ExitStack() as stack:
        url = default_sqlite_url(tmp_path_factory.mktemp("search"))
        if request.param == "postgresql":
            cluster = request.getfixturevalue("postgresql")
            url = cluster.url(stack.enter_context(cluster.fresh()))
        yield url, fill(url)


def fill(url: str) -> list[RecordedCertificate]:
    records = samples(random.Random(7))

    async def commit_all() -> None:
        async with open_store(url, clock=Clock()) as store:
            for each in records:
                await store.commit(each, issued_event(each))

    asyncio.run(commit_all())
    return records


filled_on_sqlite = pytest.mark.parametrize("filled", ["sqlite"], indirect=True)
"""For what SQLite says of its plans."""


@pytest.fixture
async def store(filled: tuple[str, list[RecordedCertificate]]) -> AsyncIterator[SqlStore]:
    async with open_store(filled[0], clock=Clock()) as opened:
        yield opened


def meets(each: RecordedCertificate, query: CertificateQuery) -> bool:
    expired = each.not_after <= NOW
    status = SearchStatus(each.status) if each.status == "revoked" or not expired else SearchStatus.EXPIRED
    prefix, names = query.subject_prefix, searchable_names(each)
    return all(
        (
            query.ca_id in {None, each.ca_id},
            query.status in {None, status},
            query.serial_hex in {None, each.serial_hex},
            query.identity in {None, each.entity_id},
            query.label in {None, each.label},
            query.expires_before is None or each.not_after < query.expires_before,
            query.expires_after is None or each.not_after >= query.expires_after,
            query.subject is None
            or (query.subject in names if prefix is None else any(name.startswith(prefix) for name in names)),
        )
    )


async def walk(store: SqlStore, query: CertificateQuery, limit: int) -> list[RecordedCertificate]:
    """Every page of a search, one after the other."""
    found: list[RecordedCertificate] = []
    after = None
    while True:
        page = await store.page_of_certificates(query, PageWanted(limit=limit, after=after))
        assert len(page.items) <= limit
        found += page.items
        after = page.next
        if after is None:
            assert page.total == len(found)
            return found
        assert len(page.items) == limit


async def test_every_combination_of_filters_finds_each_match_once_over_its_pages(
    store: SqlStore, filled: tuple[str, list[RecordedCertificate]]
) -> None:
    for filters in combinations(3):
        query = CertificateQuery(**filters)
        wanted = {each.serial_hex for each in filled[1] if meets(each, query)}
        found = [each.serial_hex for each in await walk(store, query, 7)]
        assert (set(found), len(found)) == (wanted, len(wanted)), filters


async def test_what_is_found_is_the_record(store: SqlStore, filled: tuple[str, list[RecordedCertificate]]) -> None:
    (found,) = await walk(store, CertificateQuery(serial_hex="1f"), 5)
    assert found == filled[1][0x1F - 1]


async def test_the_order_is_newest_first_by_name_or_by_expiry(
    store: SqlStore, filled: tuple[str, list[RecordedCertificate]]
) -> None:
    recorded = [each.serial_hex for each in filled[1]]
    everything = [each.serial_hex for each in await walk(store, CertificateQuery(), 50)]
    assert everything == recorded[::-1]
    soonest = [each.not_after for each in await walk(store, CertificateQuery(expires_after=NOW), 9)]
    assert soonest == sorted(soonest)
    expired = [each.not_after for each in await walk(store, CertificateQuery(status=SearchStatus.EXPIRED), 9)]
    assert expired == sorted(expired, reverse=True)
    first_names = [
        min(name for name in searchable_names(each) if name.startswith("pump-1"))
        for each in await walk(store, CertificateQuery(subject="PUMP-1*"), 9)
    ]
    assert first_names == sorted(first_names)


@pytest.mark.parametrize("filters", [{}, {"subject": "pump-1*"}, {"expires_after": NOW}, {"label": "factory"}])
async def test_skipping_is_going_on(store: SqlStore, filters: dict[str, Any]) -> None:
    query = CertificateQuery(**filters)
    whole = await walk(store, query, 50)
    for offset in (0, 1, 13, len(whole)):
        page = await store.page_of_certificates(query, PageWanted(limit=5, offset=offset))
        assert list(page.items) == whole[offset : offset + 5]


async def test_a_page_that_was_begun_is_not_moved_by_what_comes_in(url: str) -> None:
    async with open_store(url, clock=Clock()) as store:
        for number in range(1, 7):
            each = record(f"{number:x}")
            await store.commit(each, issued_event(each))
        first = await store.page_of_certificates(CertificateQuery(), PageWanted(limit=3))
        for number in range(7, 12):
            each = record(f"{number:x}")
            await store.commit(each, issued_event(each))
        second = await store.page_of_certificates(CertificateQuery(), PageWanted(limit=3, after=first.next))
        assert [each.serial_hex for each in (*first.items, *second.items)] == ["6", "5", "4", "3", "2", "1"]
        assert second.next is None


@pytest.mark.parametrize(
    "cursor",
    ["", "i", "i.", "i.x", "i.1.2", "x.1", "e.1", "e.eA==.1", "n.%%.1", "i.99999999999999999999999", "n.____.1", "é.1"],
)
async def test_what_is_no_cursor_of_a_search_is_said_to_be_none(store: SqlStore, cursor: str) -> None:
    for filters in ({}, {"subject": "x*"}, {"expires_after": NOW}):
        with pytest.raises(BadCursor):
            await store.page_of_certificates(CertificateQuery(**filters), PageWanted(after=cursor))


async def test_a_cursor_of_another_search_is_refused(store: SqlStore) -> None:
    cursor = (await store.page_of_certificates(CertificateQuery(subject="pump-1*"), PageWanted(limit=1))).next
    for filters in ({}, {"expires_after": NOW}, {"status": SearchStatus.EXPIRED}, {"subject": "pump-7"}):
        with pytest.raises(BadCursor):
            await store.page_of_certificates(CertificateQuery(**filters), PageWanted(after=cursor))


@contextmanager
def statements(store: SqlStore) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that the reading thread sends meanwhile."""
    noted: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: Any) -> None:
        noted.append((statement, parameters))

    engine = engine_behind(store._read)
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(engine, "before_cursor_execute", note)


def plans(url: str, noted: list[tuple[str, Any]]) -> list[str]:
    """What SQLite says of how it goes about statements."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [
            row[3]
            for statement, parameters in noted
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    engine.dispose()
    return found


LEADERS = {
    "serial_hex": "(serial_hex=?)",
    "identity": "ix_certificates_entity_id_id",
    "subject": "certificate_names USING PRIMARY KEY",
    "expires_before": "COVERING INDEX ix_certificates_expiry_search",
    "expires_after": "COVERING INDEX ix_certificates_expiry_search",
    "label": "COVERING INDEX ix_certificates_label_search",
    "ca_id": "COVERING INDEX ix_certificates_ca_search",
}


@filled_on_sqlite
async def test_no_combination_of_filters_scans_a_table_or_sorts_what_it_finds(
    store: SqlStore, filled: tuple[str, list[RecordedCertificate]]
) -> None:
    """First pages and pages deep inside, the count beside them too; SQLite knows no numbers of these tables."""
    seen: set[str] = set()
    for filters in combinations(len(SHAPES), SHAPES):
        query = CertificateQuery(**filters)
        with statements(store) as noted:
            first = await store.page_of_certificates(query, PageWanted(limit=1))
            if first.next is not None:
                await store.page_of_certificates(query, PageWanted(limit=1, after=first.next))
        searches = [each for each in noted if "FROM certificate" in each[0] and "count(*)" not in each[0]]
        shapes = {statement for statement, _ in searches}
        if shapes <= seen:
            continue
        seen |= shapes
        lines = plans(filled[0], searches)
        if filters:  # of everything, a page is the last rows of the table
            assert [line for line in lines if line.startswith("SCAN c")] == [], (filters, lines)
        are_few = {"serial_hex", "identity"} & set(filters) or filters == {"status": SearchStatus.ACTIVE}
        if not are_few:
            assert [line for line in lines if "TEMP B-TREE" in line] == [], (filters, lines)
        leader = next((name for name in LEADERS if name in filters), None)
        if leader is not None and not ({"status"} & set(filters) and leader in {"label", "ca_id"}):
            assert any(LEADERS[leader] in line for line in lines), (filters, lines)


@filled_on_sqlite
async def test_active_ones_are_found_by_what_has_not_expired_unless_they_are_many(
    store: SqlStore, filled: tuple[str, list[RecordedCertificate]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among years of expired ones a few are left: a walk from the newest on would see them all."""
    query = CertificateQuery(status=SearchStatus.ACTIVE)
    found = []
    for most, index in ((10_000, "ix_certificates_expiry_search"), (5, "ix_certificates_status_search")):
        monkeypatch.setattr("kipuka_core.edges.store.certificate_search.COUNTED_AT_MOST", most)
        with statements(store) as noted:
            found.append((await store.page_of_certificates(query, PageWanted(limit=30))).items)
        assert any(index in line for line in plans(filled[0], noted[-2:-1]))
        assert any("ix_certificates_expiry_search" in line for line in plans(filled[0], noted[:1]))
    assert found[0] == found[1]


@filled_on_sqlite
async def test_counting_scans_no_table_either(store: SqlStore, filled: tuple[str, list[RecordedCertificate]]) -> None:
    for filters in combinations(2, SHAPES):
        if not filters:
            continue
        with statements(store) as noted:
            await store.page_of_certificates(CertificateQuery(**filters), PageWanted(limit=1))
        counts = [each for each in noted if "count(*)" in each[0]]
        lines = plans(filled[0], counts)
        assert [line for line in lines if line.startswith("SCAN c")] == [], (filters, lines)


async def test_a_total_is_exact_up_to_its_limit(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (await store.page_of_certificates(CertificateQuery(), PageWanted())).total
    assert whole == 160
    monkeypatch.setattr("kipuka_core.edges.store.certificate_search.COUNTED_AT_MOST", 20)
    page = await store.page_of_certificates(CertificateQuery(), PageWanted())
    assert page.total == 21
    monkeypatch.setattr("kipuka_core.model.search.COUNTED_AT_MOST", 20)
    assert page.total_text == "20+"
    assert replace(page, total=20).total_text == "20"


# -- revoking what is found --------------------------------------------------------------------------------------------
@pytest.fixture
async def held(url: str, clock: Clock) -> AsyncIterator[SqlStore]:
    """An active one (1), one on hold (2), one revoked (3), one that has expired (4)."""
    async with open_store(url, clock=clock) as store:
        for serial, fields in {
            "1": {},
            "2": {"status": CertificateStatus.REVOKED, "revoked_at": NOW, "revocation_reason": 6},
            "3": {"status": CertificateStatus.REVOKED, "revoked_at": NOW, "revocation_reason": 1},
            "4": {"not_after": NOW - timedelta(days=1)},
        }.items():
            each = record(serial, **fields)  # type: ignore[arg-type]  # of different types
            await store.commit(each, issued_event(each))
        yield store


async def revoke_all(store: SqlStore, reason: int, now: datetime = NOW) -> list[str]:
    page = await store.revocable_certificates(CertificateQuery(label=""), PageWanted(), reason=reason)
    assert await store.count_revocable(CertificateQuery(label=""), reason=reason) == len(page.items)
    facts = [CertificateRevoked(time=now, serial=each.serial_hex, ca_id=each.ca_id) for each in page.items]
    await store.revoke_certificates(page.items, facts, reason=reason, now=now)
    return [each.serial_hex for each in page.items]


async def test_revocable_is_what_a_revocation_would_change(held: SqlStore) -> None:
    assert await revoke_all(held, 6) == ["4", "1"]
    assert await revoke_all(held, 6) == []
    assert await revoke_all(held, 1, NOW + timedelta(minutes=1)) == ["4", "2", "1"]
    assert await revoke_all(held, 1) == []
    reasons = [each.revocation_reason for each in await walk(held, CertificateQuery(), 10)]
    assert reasons == [1, 1, 1, 1]
    facts = await held.search_events()
    assert [fact["serial"] for fact in facts if fact["event"] == "certificate_revoked"] == ["1", "2", "4", "1", "4"]


async def test_only_what_is_on_hold_is_released(held: SqlStore) -> None:
    fact = CertificateReleased(time=NOW, actor="ana", serial="2", ca_id="default")
    for serial in ("1", "3", "99"):
        assert not await held.release_certificate(ISSUER, serial, fact)
    assert await held.release_certificate(ISSUER, "2", fact)
    released = await held.find_certificate(ISSUER, "2")
    assert released == record("2")
    assert not await held.release_certificate(ISSUER, "2", fact)
    assert [each["event"] for each in await held.search_events()].count("certificate_released") == 1
