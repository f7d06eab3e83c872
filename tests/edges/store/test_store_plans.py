"""How PostgreSQL goes about searches among many certificates: by the indexes that SQLite uses, too."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from kipuka_core.edges.store import OldKind, SqlStore, open_store
from kipuka_core.edges.store.certificates import _to_row, searchable_names
from kipuka_core.edges.store.events import _row
from kipuka_core.edges.store.tables import certificate_names, certificates, events
from kipuka_core.model.record import CertificateStatus
from kipuka_core.model.search import CertificateQuery, EventQuery, PageWanted
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import ISSUER, Clock, engine_behind, engine_of, issued_event, record
from tests.edges.store.test_store_search import SHAPES, combinations, statements
from tests.postgresql.cluster import Cluster

pytestmark = [pytest.mark.interop, pytest.mark.long]

_ROWS = 30_000


@pytest.fixture(scope="module")
def many(postgresql: Cluster) -> Iterator[str]:
    """A database with thirty thousand certificates of a fleet over three years, and what was said of them."""
    with postgresql.fresh() as name:
        url = postgresql.url(name)
        asyncio.run(_open(url))
        chance = random.Random(11)
        rows, names, facts = [], [], []
        for number in range(1, _ROWS + 1):
            status = chance.choices(list(CertificateStatus), [97, 3])[0]
            is_old = number <= _ROWS // 5
            revoked = status is CertificateStatus.REVOKED
            each = record(
                f"{number:x}",
                ca_id="gone" if is_old else chance.choice(["default", "default", "second"]),
                label="closed" if is_old else chance.choices(["", "factory", "rare"], [60, 39, 1])[0],
                entity_id=f"pump-{number % 9000}",
                subject=f"CN=pump-{number % 9000}",
                sans=(f"dns:pump-{number % 9000}.example",),
                issued_at=NOW - timedelta(minutes=_ROWS - number),
                not_after=NOW + timedelta(days=chance.randrange(-800, 300)),
                status=status,
                revoked_at=NOW if revoked else None,
                revocation_reason=1 if revoked else None,
                certificate_der=chance.randbytes(700),
            )
            rows.append({**_to_row(each), "id": number, "status_change": number if revoked else None})
            names += [{"name": value, "certificate_id": number} for value in searchable_names(each)]
            facts.append(_row(issued_event(each)))
        with engine_of(url).begin() as connection:
            for table, values in ((certificates, rows), (certificate_names, names), (events, facts)):
                connection.execute(insert(table), values)
        postgresql.execute("ANALYZE", name)
        yield url


async def _open(url: str) -> None:
    async with open_store(url):
        pass


@pytest.fixture
async def store(many: str) -> AsyncIterator[SqlStore]:
    async with open_store(many, clock=Clock()) as opened:
        yield opened


Noted = list[tuple[str, Any]]


def plans(noted: Noted, store: SqlStore) -> list[Any]:
    """What PostgreSQL says of how it goes about statements, and that it does so, in a session as the store has it."""
    with engine_behind(store._read).connect() as connection:
        found = [
            connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar()
            for statement, parameters in noted
        ]
    return [json.loads(plan) if isinstance(plan, str) else plan for plan in found]


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    if isinstance(plan, list):
        for each in plan:
            yield from nodes(each)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        yield from nodes([each for each in plan.values() if isinstance(each, (dict, list))])


def scanned(found: list[Any]) -> list[str]:
    """The tables that plans read from their first row to their last."""
    return [node["Relation Name"] for node in nodes(found) if node["Node Type"] == "Seq Scan"]


def passed_over(found: list[Any]) -> int:
    """How many rows plans look at and do not take."""
    return sum(node.get("Rows Removed by Filter", 0) * node.get("Actual Loops", 1) for node in nodes(found))


async def searches(store: SqlStore, query: CertificateQuery) -> Noted:
    """The statements of a first page and of the one after it."""
    with statements(store) as noted:
        first = await store.page_of_certificates(query, PageWanted(limit=20))
        if first.next is not None:
            await store.page_of_certificates(query, PageWanted(limit=20, after=first.next))
    return noted


@pytest.mark.parametrize("maintenance", ["ANALYZE", "VACUUM ANALYZE"])
async def test_no_combination_of_filters_scans_the_certificates(
    store: SqlStore, many: str, postgresql: Cluster, maintenance: str
) -> None:
    postgresql.execute(maintenance, many.rpartition("/")[2])
    for filters in combinations(3, SHAPES):
        found = plans(await searches(store, CertificateQuery(**filters)), store) if filters else []
        assert scanned(found) == [], filters


async def test_what_lies_far_back_is_found_without_a_walk_through_what_is_newer(
    store: SqlStore, many: str, postgresql: Cluster
) -> None:
    """A fifth of all certificates, all of them old: the planner takes them for spread evenly."""
    postgresql.execute("VACUUM ANALYZE", many.rpartition("/")[2])
    for filters in ({"label": "closed"}, {"ca_id": "gone"}, {"ca_id": "gone", "label": "closed"}):
        query = CertificateQuery(**filters)  # type: ignore[arg-type]  # texts
        noted = await searches(store, query)
        assert passed_over(plans(noted, store)) < 100, filters


async def test_no_search_for_facts_scans_the_table(store: SqlStore) -> None:
    for query in (
        EventQuery(event="certificate_issued"),
        EventQuery(actor="pump-7"),
        EventQuery(target="CN=pump-7"),
        EventQuery(since=NOW - timedelta(days=1)),
        EventQuery(until=NOW - timedelta(days=1)),
        EventQuery(actor="pump-7", since=NOW - timedelta(days=9)),
    ):
        with statements(store) as noted:
            await store.page_of_events(query, PageWanted(limit=20))
        assert scanned(plans(noted, store)) == [], query


async def test_nothing_that_is_asked_often_scans_a_table(store: SqlStore) -> None:
    with statements(store) as noted:
        await store.inventory()
        await store.issued_by_day(NOW - timedelta(days=7), NOW)
        await store.status_changes(ISSUER, after=10, ended_since=NOW)
        await store.search_certificates(subject="pump-1*", limit=5)
        await store.search_certificates(entity_id="pump-1", status="active")
        for kind in OldKind:
            await store.old_rows(kind, NOW - timedelta(days=700), 100)
    found = plans(noted, store)
    # Which requests a reservation is kept for is asked of a table that holds nothing but what waits.
    assert set(scanned(found)) <= {"otp_reservations"}
