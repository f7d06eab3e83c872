"""Certificates issued by day, for the console's chart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import event

from kipuka_core.edges.store import SqlStore
from tests.edges.store.store_samples import engine_behind, issued_event, on_sqlite, record

MIDNIGHT = datetime(2027, 3, 2, tzinfo=UTC)
MOMENTS = (
    MIDNIGHT - timedelta(days=30),
    MIDNIGHT - timedelta(microseconds=1),
    MIDNIGHT,
    MIDNIGHT + timedelta(hours=23, minutes=59, seconds=59),
    MIDNIGHT + timedelta(days=1),
    MIDNIGHT + timedelta(days=2),
)


async def test_days_are_those_of_utc_and_the_window_is_kept(store: SqlStore) -> None:
    for number, moment in enumerate(MOMENTS, start=1):
        each = record(f"{number:x}", issued_at=moment)
        await store.commit(each, issued_event(each))
    found = await store.issued_by_day(MIDNIGHT - timedelta(days=1), MIDNIGHT + timedelta(days=2))
    days = [(MIDNIGHT + timedelta(days=days)).date() for days in (-1, 0, 1)]
    assert found == dict(zip(days, (1, 2, 1), strict=True))
    assert await store.issued_by_day(MIDNIGHT + timedelta(days=3), MIDNIGHT + timedelta(days=9)) == {}


@on_sqlite
async def test_the_days_are_counted_in_an_index(store: SqlStore) -> None:
    statements: list[str] = []
    engine = engine_behind(store._read)
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement))
    await store.issued_by_day(MIDNIGHT - timedelta(days=1), MIDNIGHT)
    (statement,) = [each for each in statements if "count(" in each]
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (0, 1)).all()
    assert "COVERING INDEX ix_certificates_issued_at_id" in str(plan)
