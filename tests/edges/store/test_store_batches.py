import asyncio
import sqlite3
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from kipuka_core.domain.ports import AlreadyIssued
from kipuka_core.edges.store import SqlStore, open_store
from kipuka_core.edges.store.writer import Batch
from kipuka_core.errors import StoreUnavailable, Unavailable
from kipuka_core.model.event import ServerStarted
from kipuka_core.model.record import RecordedCertificate
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import (
    ISSUER,
    engine_behind,
    issued_event,
    on_sqlite,
    otp,
    otp_event,
    record,
    reserve,
)

FACT = ServerStarted(time=NOW, version="1")


class Gate:
    """Holds a store's writing thread, so that what is submitted meanwhile becomes one batch."""

    def __init__(self, store: SqlStore) -> None:
        self._open, self._reached = threading.Event(), threading.Event()
        self._blocked = asyncio.create_task(store._write(self._wait))

    def _wait(self, _batch: Batch) -> None:
        self._reached.set()
        assert self._open.wait(30)

    async def held(self) -> None:
        await asyncio.to_thread(self._reached.wait, 30)

    async def release(self) -> None:
        self._open.set()
        await self._blocked


async def in_one_batch(store: SqlStore, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    gate = Gate(store)
    await gate.held()
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    await asyncio.sleep(0)
    await gate.release()
    return await asyncio.gather(*tasks, return_exceptions=True)


def commit(store: SqlStore, certificate: RecordedCertificate) -> Coroutine[Any, Any, None]:
    return store.commit(certificate, issued_event(certificate))


@pytest.fixture
def transactions(store: SqlStore) -> list[str]:
    """The statements that began, committed or rolled back a writing transaction."""
    seen: list[str] = []
    engine = engine_behind(store._write)
    event.listen(engine, "commit", lambda _connection: seen.append("commit"))
    event.listen(engine, "rollback", lambda _connection: seen.append("rollback"))
    return seen


async def test_concurrent_commits_share_one_transaction_and_one_insert_per_table(
    store: SqlStore, transactions: list[str]
) -> None:
    for number in range(8):
        await store.add_otp(otp(f"otp-{number}"), otp_event())
        await reserve(store, f"request-{number}", otp_id=f"otp-{number}")
    statements: list[str] = []
    engine = engine_behind(store._write)
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: statements.append(sql.split("(")[0]))
    transactions.clear()
    await in_one_batch(store, *(commit(store, record(str(n), otp_id=f"otp-{n}")) for n in range(8)))
    assert transactions == ["commit", "commit"]  # the gate's and the batch's
    assert [sql for sql in statements if "INSERT" in sql] == [
        "INSERT INTO certificates ",
        "INSERT INTO certificate_names ",
        "INSERT INTO events ",
    ]


async def test_a_failing_job_takes_no_other_with_it(store: SqlStore) -> None:
    await commit(store, record("3"))
    outcomes = await in_one_batch(store, *(commit(store, record(str(n), request_id=f"again-{n}")) for n in range(1, 6)))
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), AlreadyIssued, type(None), type(None)]
    assert len(await store.search_certificates()) == 5
    assert len(await store.search_events()) == 5


async def test_a_database_error_of_one_job_takes_no_other_with_it(store: SqlStore) -> None:
    outcomes = await in_one_batch(
        store,
        store.add_event(FACT),
        store._write(lambda batch: batch.connection.execute(text("SELECT * FROM no_such_table"))),
        store.add_event(FACT),
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), StoreUnavailable, type(None)]
    assert len(await store.search_events()) == 2


async def test_a_cancelled_caller_neither_undoes_nor_loses_the_write(store: SqlStore) -> None:
    gate = Gate(store)
    await gate.held()
    task = asyncio.create_task(commit(store, record("1")))
    await asyncio.sleep(0)
    task.cancel()
    await gate.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.add_event(FACT)  # behind it in the queue
    assert await store.find_certificate(ISSUER, "1") == record("1")


async def test_a_cancelled_caller_does_not_cost_the_others_of_its_batch_their_answers(store: SqlStore) -> None:
    gate = Gate(store)
    await gate.held()
    first, second = (asyncio.create_task(commit(store, record(serial_hex))) for serial_hex in ("1", "2"))
    await asyncio.sleep(0)
    first.cancel()
    await gate.release()
    await asyncio.wait_for(second, 30)
    assert first.cancelled()


async def test_a_connection_that_broke_is_replaced(store: SqlStore) -> None:
    def break_it(batch: Batch) -> None:
        connection = batch.connection.connection.driver_connection
        assert connection is not None
        connection.close()
        batch.connection.execute(text("SELECT 1"))

    for call in (store._write, store._read):
        with pytest.raises(StoreUnavailable):
            await call(break_it)
    await store.ping()


@on_sqlite
async def test_a_commit_that_fails_is_not_tried_again_and_the_next_batch_is_written(store: SqlStore) -> None:
    runs: list[str] = []

    def fails_at_commit(batch: Batch) -> None:
        runs.append("run")
        batch.connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        batch.connection.exec_driver_sql("INSERT INTO certificate_names VALUES ('orphan', 1)")

    outcomes = await in_one_batch(store, store._write(fails_at_commit), store.add_event(FACT))
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]
    assert runs == ["run"]
    await store.add_event(FACT)
    assert len(await store.search_events()) == 1


async def test_a_release_right_behind_a_cancelled_commit_does_not_take_its_reservation(store: SqlStore) -> None:
    await store.add_otp(otp(), otp_event())
    await reserve(store, "request-1")
    outcomes = await in_one_batch(store, commit(store, record("1", otp_id="otp-1")), store.release("request-1"))
    assert outcomes == [None, None]
    assert await store.find_certificate(ISSUER, "1") is not None


async def test_closing_finishes_what_is_queued(url: str) -> None:
    async with open_store(url) as store:
        gate = Gate(store)
        await gate.held()
        tasks = [asyncio.create_task(store.add_event(FACT)) for _ in range(20)]
        await asyncio.sleep(0)
        await gate.release()
    await asyncio.gather(*tasks)
    async with open_store(url) as store:
        assert len(await store.search_events()) == 20


async def test_a_full_queue_is_unavailable_until_there_is_room(url: str) -> None:
    async with open_store(url, max_pending=3) as store:
        gate = Gate(store)
        await gate.held()
        tasks = [asyncio.create_task(store.release("1")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await store.release("1")
        await gate.release()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), type(None), Unavailable]
        await store.release("1")


async def test_events_leave_half_of_the_queue_to_enrolments(url: str) -> None:
    async with open_store(url, max_pending=6) as store:
        gate = Gate(store)
        await gate.held()
        events = [asyncio.create_task(store.add_event(FACT)) for _ in range(6)]
        enrolments = [asyncio.create_task(store.release("1")) for _ in range(3)]
        await asyncio.sleep(0)
        await gate.release()
        outcomes = await asyncio.gather(*events, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None)] * 2 + [Unavailable] * 4
        await asyncio.gather(*enrolments)


async def test_reads_do_not_wait_for_a_held_writer(store: SqlStore) -> None:
    gate = Gate(store)
    await gate.held()
    assert await store.find_certificate(ISSUER, "1") is None
    await gate.release()


async def test_a_closed_store_is_unavailable(url: str) -> None:
    async with open_store(url) as store:
        pass
    for call in (store.ping(), store.add_event(FACT), store.find_certificate(ISSUER, "1")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


async def test_a_broken_database_is_unavailable_and_the_error_holds_no_values(store: SqlStore) -> None:
    await store.add_otp(otp(), otp_event())
    await store._write(lambda batch: batch.connection.exec_driver_sql("DROP TABLE certificate_names"))
    await store._write(lambda batch: batch.connection.exec_driver_sql("DROP TABLE events"))
    with pytest.raises(StoreUnavailable, match=r"no such table|does not exist") as caught:
        await store.commit(record("1"), issued_event(record("1")))
    assert "device" not in str(caught.value) + str(caught.value.__cause__)
    assert await store.find_certificate(ISSUER, "1") is None


@on_sqlite
async def test_a_database_that_another_program_locks_for_long_is_unavailable_and_then_works_again(
    url: str, tmp_path: Path
) -> None:
    async with open_store(url, busy_timeout_seconds=0.05) as store:
        other = sqlite3.connect(tmp_path / "kipuka.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.add_event(FACT)
        with pytest.raises(StoreUnavailable):
            await store.ping()
        other.execute("ROLLBACK")
        other.close()
        await store.add_event(FACT)
        await store.ping()
        assert len(await store.search_events()) == 1
