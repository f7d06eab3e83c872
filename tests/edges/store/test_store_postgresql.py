"""What can only happen on PostgreSQL: transactions side by side, sessions that end, settings of somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from kipuka_core.domain.ports import LockoutLimits, ReservationLost
from kipuka_core.edges.store import SqlStore, lockouts, open_store
from kipuka_core.edges.store.moments import to_micros
from kipuka_core.errors import ConfigurationError, StoreUnavailable
from kipuka_core.model.record import RequestState, Reservation
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import (
    Clock,
    engine_behind,
    issued_event,
    otp,
    otp_event,
    record,
    reserve,
    waiting,
    waiting_event,
)
from tests.postgresql.cluster import PASSWORD, ROLE, Cluster

pytestmark = pytest.mark.interop

LIMITS = LockoutLimits(max_failures=3, failure_window_seconds=60, lockout_seconds=600, address_failures=1000)


@pytest.fixture
def database() -> str:
    return "postgresql"


@pytest.fixture
def name(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.fixture
def other(postgresql: Cluster, name: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A session of another process, in a transaction that has begun."""
    with psycopg.connect(postgresql.url(name), autocommit=False) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
async def beside(store: SqlStore, url: str, clock: Clock) -> AsyncIterator[SqlStore]:
    """The same database as another process has it open."""
    async with open_store(url, clock=clock) as opened:
        yield opened


async def blocked(postgresql: Cluster, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Begin something, and wait until it waits for another transaction."""
    task = asyncio.create_task(work)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    while not (await asyncio.to_thread(postgresql.rows, name, waits, name))[0][0]:
        assert not task.done(), "it waits for nobody"
        await asyncio.sleep(0.01)
    return task


# -- transactions side by side -----------------------------------------------------------------------------------------
async def test_of_identical_requests_at_once_the_first_is_remembered(
    store: SqlStore, postgresql: Cluster, name: str, other: psycopg.Connection[Any]
) -> None:
    await store.remember(waiting("template", key="another"), waiting_event("template"))
    columns = [row[0] for row in other.execute("SELECT * FROM requests LIMIT 0").description or ()]
    values = ", ".join({"id": "'first'", "key": "'key'"}.get(column, column) for column in columns)
    other.execute(f"INSERT INTO requests SELECT {values} FROM requests".encode())
    second = await blocked(postgresql, name, store.remember(waiting("second"), waiting_event("second")))
    other.commit()
    assert (await second).id == "first"
    assert await store.get_request("second") is None
    assert [fact["request_id"] for fact in await store.search_events()] == ["template"]


async def test_the_request_of_one_that_gave_up_is_not_in_the_way(
    store: SqlStore, postgresql: Cluster, name: str, other: psycopg.Connection[Any]
) -> None:
    await store.remember(waiting("template", key="another"), waiting_event("template"))
    other.execute("UPDATE requests SET key = 'key'")
    second = await blocked(postgresql, name, store.remember(waiting("second"), waiting_event("second")))
    other.rollback()
    assert (await second).id == "second"


async def test_a_certificate_of_a_request_that_is_being_refused_is_not_recorded(
    store: SqlStore, postgresql: Cluster, name: str, other: psycopg.Connection[Any]
) -> None:
    await store.remember(waiting("first"), waiting_event("first"))
    other.execute("UPDATE requests SET state = 'refused', decided_at = 1 WHERE id = 'first'")
    certificate = record("1", request_id="first")
    commit = await blocked(postgresql, name, store.commit(certificate, issued_event(certificate)))
    other.commit()
    with pytest.raises(ReservationLost, match="refused"):
        await commit
    assert await store.search_certificates() == []


async def test_a_request_that_is_being_decided_does_not_wait_again(
    store: SqlStore, postgresql: Cluster, name: str, other: psycopg.Connection[Any]
) -> None:
    await store.remember(waiting("first", state=RequestState.INTENT))
    other.execute("UPDATE requests SET state = 'refused', decided_at = 1 WHERE id = 'first'")
    again = await blocked(postgresql, name, store.remember(waiting("first"), waiting_event("first")))
    other.commit()
    assert (await again).state is RequestState.REFUSED
    assert await store.search_events() == []


async def test_a_password_that_is_being_withdrawn_is_not_used(
    store: SqlStore, postgresql: Cluster, name: str, other: psycopg.Connection[Any]
) -> None:
    await store.add_otp(otp(), otp_event())
    await reserve(store, "request-1")
    other.execute("UPDATE otps SET revoked_at = 1")
    certificate = record("1", otp_id="otp-1")
    commit = await blocked(postgresql, name, store.commit(certificate, issued_event(certificate)))
    other.execute("DELETE FROM otp_reservations")  # what revoking does next: it waits for nobody
    other.commit()
    with pytest.raises(ReservationLost):
        await commit
    assert f"@{name} ERROR:  deadlock" not in postgresql.log_file.read_text()


async def test_wrong_secrets_at_once_are_counted_one_after_the_other(
    store: SqlStore, postgresql: Cluster, name: str, other: psycopg.Connection[Any]
) -> None:
    other.execute("SELECT pg_advisory_xact_lock(%s)", (lockouts._LOCK_NUMBER,))
    row = ("192.0.2.1", "device", to_micros(NOW))
    for _ in range(2):
        other.execute("INSERT INTO auth_failures (address, entity_id, failed_at) VALUES (%s, %s, %s)", row)
    third = await blocked(postgresql, name, store.count_failure("192.0.2.1", "device", limits=LIMITS, now=NOW))
    other.commit()
    assert await third == NOW + timedelta(seconds=600)


async def test_wrong_secrets_at_once_lock_once(store: SqlStore, beside: SqlStore) -> None:
    for number in range(5):
        address = f"192.0.2.{number}"
        outcomes = await asyncio.gather(
            *(each.count_failure(address, "device", limits=LIMITS, now=NOW) for each in (store, beside) * 8)
        )
        assert [outcome for outcome in outcomes if outcome] == [NOW + timedelta(seconds=600)], address


async def test_processes_that_lock_the_same_rows_in_another_order_both_get_on(
    store: SqlStore, beside: SqlStore, postgresql: Cluster, name: str
) -> None:
    for number in range(8):
        await store.add_otp(otp(f"otp-{number}", max_usage=100), otp_event())

    async def use(each: SqlStore, who: str, number: int) -> None:
        request_id = f"{who}-{number}"
        assert await reserve(each, request_id, otp_id=f"otp-{number}") is Reservation.RESERVED
        certificate = record(f"{who}{number}", request_id=request_id, otp_id=f"otp-{number}")
        await each.commit(certificate, issued_event(certificate))

    forth, back = range(8), range(7, -1, -1)
    for turn in range(5):
        await asyncio.gather(
            *(use(store, f"a{turn}", number) for number in forth), *(use(beside, f"b{turn}", n) for n in back)
        )
    assert {each.usage_count for each in await store.list_otps()} == {10}
    assert f"@{name} ERROR:  deadlock" not in postgresql.log_file.read_text()


async def test_a_row_that_another_process_holds_for_long_is_unavailable(
    url: str, store: SqlStore, other: psycopg.Connection[Any]
) -> None:
    await store.add_otp(otp(), otp_event())
    other.execute("SELECT * FROM otps FOR UPDATE")
    async with open_store(url, busy_timeout_seconds=0.1) as impatient:
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await reserve(impatient)
        other.rollback()
        assert await reserve(impatient) is Reservation.RESERVED


# -- sessions ----------------------------------------------------------------------------------------------------------
def end_sessions(postgresql: Cluster, name: str) -> None:
    ended = postgresql.rows(
        name,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
        name,
    )
    assert ended


async def test_sessions_that_were_ended_are_begun_again_and_nobody_notices(
    store: SqlStore, postgresql: Cluster, name: str
) -> None:
    await store.add_otp(otp(), otp_event())
    await store.find_request("key")
    for _ in range(2):
        end_sessions(postgresql, name)
        await store.add_event(otp_event())
        assert await store.find_request("key") is None
        assert len(await store.list_otps()) == 1


async def test_a_transaction_whose_session_was_ended_is_run_again_from_its_beginning(
    store: SqlStore, postgresql: Cluster, name: str
) -> None:
    await store.add_event(otp_event())
    runs = []

    def interrupted(batch: Any) -> None:
        batch.connection.execute(text("UPDATE jobs SET due_at = due_at + 1"))
        runs.append(1)
        if len(runs) == 1:
            end_sessions(postgresql, name)
        batch.connection.execute(text("SELECT 1"))

    await store._write(interrupted)
    assert len(runs) == 2
    assert postgresql.rows(name, "SELECT due_at FROM jobs") == [(1,)]


async def test_while_nobody_may_connect_a_batch_asks_once(store: SqlStore, postgresql: Cluster, name: str) -> None:
    await store.add_event(otp_event())
    attempts = []
    event.listen(engine_behind(store._write), "do_connect", lambda *_: attempts.append(1))
    postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    ended = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
    postgresql.rows("postgres", ended)
    try:
        outcomes = await in_one_batch_of(store, 20)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert all("not currently accepting connections" in str(outcome) for outcome in outcomes)
        assert len(attempts) <= 2  # the gate may have tried for itself
    finally:
        postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await store.add_event(otp_event())


async def in_one_batch_of(store: SqlStore, count: int) -> list[Any]:
    return await asyncio.gather(*(store.add_event(otp_event()) for _ in range(count)), return_exceptions=True)


async def test_a_read_does_not_wait_behind_a_search(store: SqlStore) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_batch: Any) -> None:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)

    search = asyncio.create_task(store._read(slow))
    await began.wait()
    assert await store.find_request("key") is None
    go_on.set()
    await search


async def test_a_search_cannot_write(store: SqlStore) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store._read(lambda batch: batch.connection.execute(text("DELETE FROM otps")))


async def test_errors_quote_no_row(store: SqlStore) -> None:
    await store.add_otp(otp(), otp_event())
    broken = text("UPDATE otps SET usage_count = 99")
    with pytest.raises(StoreUnavailable, match="usage_within_limit") as caught:
        await store._write(lambda batch: batch.connection.execute(broken))
    cause: BaseException | None = caught.value
    while cause is not None:
        assert "device" not in str(cause)
        assert "DETAIL" not in str(cause)
        cause = cause.__cause__ or cause.__context__


# -- settings of somebody else -----------------------------------------------------------------------------------------
async def test_commits_are_synchronous_whatever_the_database_says(url: str, postgresql: Cluster, name: str) -> None:
    settings = {
        "synchronous_commit": "off",
        "default_transaction_isolation": "'repeatable read'",
        "DateStyle": "'SQL, DMY'",
        "client_encoding": "LATIN1",
        "standard_conforming_strings": "off",
        "bytea_output": "escape",
    }
    for setting, value in settings.items():
        postgresql.execute(f"ALTER DATABASE {name} SET {setting} = {value}")

    def shown(batch: Any) -> list[Any]:
        words = ("synchronous_commit", "transaction_isolation", "client_encoding")
        return [batch.connection.execute(text(f"SHOW {word}")).scalar() for word in words]

    async with open_store(url) as store:
        assert await store._write(shown) == ["on", "read committed", "UTF8"]
        certificate = record("1", subject="CN=Gerät\\\\,O='é'", certificate_der=bytes(range(256)))
        await store.commit(certificate, issued_event(certificate))
        assert list(await store.search_certificates()) == [certificate]


async def test_a_database_of_another_encoding_is_refused(postgresql: Cluster) -> None:
    options = "ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'"
    with postgresql.fresh(options=options) as name:
        message = await refusal(postgresql.url(name))
    assert message == f"db.url: {name}: the encoding of the database is SQL_ASCII; make one with ENCODING 'UTF8'"


async def refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        async with open_store(url):
            pass
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda url: url.replace("correct-horse", "wrong-horse"), f'password authentication failed for user "{ROLE}"'),
        (lambda url: url + "_missing", "does not exist"),
        (lambda url: url.replace(f"{ROLE}:", "nobody:", 1), 'authentication failed for user "nobody"'),
        (lambda url: url + "?sslmod=require", "sslmod"),
        (lambda url: url + "?sslmode=verify-full&sslrootcert=/nowhere.pem", "/nowhere.pem"),
        (lambda url: url + "?connect_timeout=soon", "soon"),
        (lambda url: url.replace("127.0.0.1:", "127.0.0.1:x"), "is not a database URL"),
    ],
)
async def test_a_url_that_does_not_lead_there_says_why_without_the_password(
    url: str, change: Any, expected: str
) -> None:
    message = await refusal(change(url))
    assert message.startswith("db.url: ")
    assert expected in message
    assert "horse" not in message
    assert PASSWORD not in message


async def test_a_database_that_may_not_be_changed_is_refused(url: str, postgresql: Cluster, name: str) -> None:
    postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "read-only" in await refusal(url)
    postgresql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    async with open_store(url):
        pass
    postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "read-only" in await refusal(url)
