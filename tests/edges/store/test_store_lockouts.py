import asyncio
import time
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from kipuka_core.domain.ports import LockoutLimits
from kipuka_core.edges.store import SqlStore, lockouts, open_store
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import engine_of

LIMITS = LockoutLimits(max_failures=3, failure_window_seconds=60, lockout_seconds=600, address_failures=5)
HERE, THERE = "192.0.2.1", "192.0.2.2"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


async def fail(
    store: SqlStore, *moments: float, address: str = HERE, entity_id: str = "device", limits: LockoutLimits = LIMITS
) -> list[datetime | None]:
    return [await store.count_failure(address, entity_id, limits=limits, now=at(moment)) for moment in moments]


async def test_the_last_straw_locks_the_pair_for_the_lockout_time(store: SqlStore) -> None:
    assert await fail(store, 0, 1, 2) == [None, None, at(602)]
    assert await store.locked_until(HERE, "device", at(2)) == at(602)
    assert await store.locked_until(HERE, "device", at(601.9)) == at(602)
    assert await store.locked_until(HERE, "device", at(602)) is None


async def test_other_entities_and_other_addresses_are_not_locked(store: SqlStore) -> None:
    await fail(store, 0, 1, 2)
    assert await store.locked_until(HERE, "other", at(3)) is None
    assert await store.locked_until(THERE, "device", at(3)) is None


async def test_failures_outside_the_window_do_not_count(store: SqlStore) -> None:
    assert await fail(store, 0, 1, 61) == [None, None, None]


async def test_failures_before_a_lockout_do_not_count_after_it(store: SqlStore) -> None:
    short = LockoutLimits(max_failures=3, failure_window_seconds=60, lockout_seconds=5)
    assert await fail(store, 0, 1, 2, 7, 8, 9, limits=short) == [None, None, at(7), None, None, at(14)]


async def test_what_is_locked_is_not_counted_and_not_prolonged(store: SqlStore) -> None:
    assert await fail(store, 0, 1, 2, 3, 4, 5) == [None, None, at(602), None, None, None]


async def test_an_address_that_tries_many_entities_is_locked_as_a_whole(store: SqlStore) -> None:
    for number in range(4):
        assert await fail(store, number, entity_id=f"device-{number}") == [None]
    assert await fail(store, 4, entity_id="device-4") == [at(604)]
    assert await store.locked_until(HERE, "never tried", at(5)) == at(604)
    assert await store.locked_until(THERE, "device-4", at(5)) is None


async def test_no_entity_name_stands_for_the_whole_address(store: SqlStore) -> None:
    for name in ("", "*", "address"):
        await fail(store, 0, 1, 2, entity_id=name, address=f"{HERE} {name}")
        assert await store.locked_until(f"{HERE} {name}", "device", at(3)) is None


async def test_asking_costs_no_query_within_a_second(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic[0])
    reads = []
    read = store._lockouts._read

    async def counted(now: datetime) -> lockouts.Lockouts:
        reads.append(now)
        return await read(now)

    monkeypatch.setattr(store._lockouts, "_read", counted)
    store._lockouts.forget()
    for _ in range(10):
        await store.locked_until(HERE, "device", NOW)
    assert len(reads) == 1
    monotonic[0] += 1.0
    await store.locked_until(HERE, "device", NOW)
    assert len(reads) == 2


async def test_a_snapshot_that_was_being_read_when_a_lockout_began_does_not_replace_a_newer_one(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, begun, go_on = store._lockouts._read, asyncio.Event(), asyncio.Event()

    async def slow(now: datetime) -> lockouts.Lockouts:
        found = await read(now)
        begun.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(store._lockouts, "_read", slow)
    asking = asyncio.create_task(store.locked_until(HERE, "device", at(2)))
    await begun.wait()
    monkeypatch.setattr(store._lockouts, "_read", read)
    await fail(store, 0, 1, 2)
    assert await store.locked_until(HERE, "device", at(3)) == at(602)
    go_on.set()
    await asking
    assert await store.locked_until(HERE, "device", at(3)) == at(602)


async def test_lockouts_of_another_worker_are_seen_within_a_second(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic[0])
    async with open_store(url) as other:
        store._lockouts.forget()
        assert await store.locked_until(HERE, "device", at(2)) is None
        await fail(other, 0, 1, 2)
        monotonic[0] += 1.0
        assert await store.locked_until(HERE, "device", at(2)) == at(602)


async def test_concurrent_failures_lock_once(store: SqlStore) -> None:
    outcomes = await asyncio.gather(*(store.count_failure(HERE, "device", limits=LIMITS, now=NOW) for _ in range(20)))
    assert [outcome for outcome in outcomes if outcome is not None] == [at(600)]


@pytest.mark.parametrize("table", ["auth_failures", "lockouts"])
async def test_old_rows_are_purged(store: SqlStore, url: str, table: str) -> None:
    await fail(store, 0, 1, 2)
    await fail(store, 1000, address=THERE)
    engine = engine_of(url)
    with engine.connect() as connection:
        left = connection.execute(text(f"SELECT address FROM {table}")).scalars().all()
    engine.dispose()
    assert HERE not in left
