import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

from kipuka_core.edges.store import SqlStore, open_store, owner
from kipuka_core.errors import StoreUnavailable
from kipuka_core.model.record import Reservation
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import Clock, issued_event, on_sqlite, otp, otp_event, record, reserve, waiting

PROGRAM = """
import asyncio, json, sys
from kipuka_core.edges.store import open_store
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import issued_event, record, reserve, waiting

async def commit(store, certificate):
    await store.commit(certificate, issued_event(certificate))

async def main(url, name, what):
    async with open_store(url, clock=lambda: NOW) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        if what == "commit":
            records = [record(f"{name}{number}", request_id=f"{name}-{number}") for number in range(100)]
            for start in range(0, 100, 10):
                await asyncio.gather(*(commit(store, each) for each in records[start:start + 10]))
        elif what == "reserve":
            ids = [f"{name}-{number}" for number in range(25)]
            print(json.dumps(await asyncio.gather(*(reserve(store, each) for each in ids))), flush=True)
        elif what == "hold":
            print(await reserve(store, "leased", otp_id="otp-1", lease_seconds=86400), flush=True)
            print(await reserve(store, "waits", otp_id="otp-2"), flush=True)
            await store.remember(waiting("waits", otp_id="otp-2"))
            print("holding", flush=True)
            sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""


class Worker:
    """A process with a store of its own; it works when told to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, url: str, name: str, what: str) -> "Worker":
        worker = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *("-c", PROGRAM, url, name, what),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        )
        assert await worker.line() == "ready"
        return worker

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")

    async def finished(self) -> bytes:
        output, _ = await self.process.communicate()
        assert self.process.returncode == 0
        return output


class StartWorkers(Protocol):
    async def __call__(self, *names: str, what: str) -> list[Worker]: ...


@pytest.fixture
async def workers(url: str) -> AsyncIterator[StartWorkers]:
    started: list[Worker] = []

    async def start(*names: str, what: str) -> list[Worker]:
        started.extend([await Worker.start(url, name, what) for name in names])
        for worker in started:
            worker.go()
        return started

    yield start
    for worker in started:
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.process.wait()


async def test_two_processes_that_write_at_once_lose_nothing(url: str, workers: StartWorkers) -> None:
    for worker in await workers("a", "b", what="commit"):
        await worker.finished()
    async with open_store(url) as store:
        found = await store.search_certificates(limit=1000)
        assert {each.request_id for each in found} == {f"{name}-{number}" for name in "ab" for number in range(100)}
        assert len(await store.search_events(limit=1000)) == 200


async def test_two_processes_that_reserve_at_once_get_one_reservation(store: SqlStore, workers: StartWorkers) -> None:
    await store.add_otp(otp(), otp_event())
    outcomes = []
    for worker in await workers("a", "b", what="reserve"):
        outcomes += json.loads(await worker.finished())
    assert sorted(outcomes) == [Reservation.BUSY] * 49 + [Reservation.RESERVED]


async def test_after_a_kill_the_next_start_frees_the_leases_and_keeps_what_waits(
    store: SqlStore, url: str, clock: Clock, workers: StartWorkers
) -> None:
    for otp_id in ("otp-1", "otp-2"):
        await store.add_otp(otp(otp_id), otp_event(otp_id))
    (worker,) = await workers("a", what="hold")
    assert [await worker.line() for _ in range(3)] == ["reserved", "reserved", "holding"]
    async with open_store(url, clock=clock) as beside:  # its start leaves what a live process holds
        assert await reserve(beside, "next", otp_id="otp-1") is Reservation.BUSY
    worker.process.send_signal(signal.SIGKILL)
    await worker.process.wait()
    async with open_store(url, clock=clock) as after:
        assert await reserve(after, "next", otp_id="otp-1") is Reservation.RESERVED
        assert await reserve(after, "next", otp_id="otp-2", csr_fingerprint="other") is Reservation.BUSY
        certificate = record("1", request_id="waits", otp_id="otp-2")
        await after.commit(certificate, issued_event(certificate))


async def test_a_start_frees_leases_that_ran_out_and_keeps_what_waits(store: SqlStore, url: str, clock: Clock) -> None:
    for otp_id in ("otp-1", "otp-2"):
        await store.add_otp(otp(otp_id), otp_event(otp_id))
    await reserve(store, "leased", otp_id="otp-1", lease_seconds=60)
    await reserve(store, "waits", otp_id="otp-2", lease_seconds=60)
    await store.remember(waiting("waits", otp_id="otp-2"))
    clock.advance(seconds=60)
    async with open_store(url, clock=clock) as other:
        assert await reserve(other, "next", otp_id="otp-1", now=NOW + timedelta(seconds=1)) is Reservation.RESERVED
        assert await reserve(other, "next", otp_id="otp-2", csr_fingerprint="other") is Reservation.BUSY


def test_a_process_is_dead_only_when_that_is_known() -> None:
    own = owner.this_process()
    host, pid, start_time = own.rsplit(":", 2)
    assert not owner.died_here(own)
    assert owner.died_here(f"{host}:{pid}:{int(start_time) - 1}")  # its id was given to this process since
    assert owner.died_here(f"{host}:4194305:1")  # above what Linux gives out
    assert not owner.died_here(f"elsewhere:{pid}:1")


@on_sqlite
async def test_nothing_is_written_into_a_file_that_was_removed_or_replaced(url: str, tmp_path: Path) -> None:
    async with open_store(url) as store:
        await store.add_otp(otp(), otp_event())
        database = tmp_path / "kipuka.db"
        database.rename(tmp_path / "moved.db")
        with pytest.raises(StoreUnavailable, match=r"kipuka\.db"):
            await store.add_event(otp_event())
        with pytest.raises(StoreUnavailable, match=r"kipuka\.db"):
            await store.list_otps()
        (tmp_path / "moved.db").rename(database)
        assert len(await store.list_otps()) == 1
