"""`[retention]` in a running server: old records are in files, new ones stay, nothing is lost on the way."""

from __future__ import annotations

import asyncio
import gzip
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.edges.store import OldKind, SqlStore, default_sqlite_url, open_store
from kipuka_core.errors import StoreUnavailable
from kipuka_core.model.event import Event, RecordsArchived
from kipuka_core.retention import RetentionJob
from kipuka_core.testing.server import Deployment, make_deployment, wait_until
from tests.edges.store.store_samples import issued_event, otp, otp_event, record
from tests.system.system_kit import serving

DAY = timedelta(days=1)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return make_deployment(tmp_path / "deployment")


def archived(directory: Path, kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(directory.glob(f"{kind}-*.jsonl.gz"))
        for line in gzip.decompress(file.read_bytes()).decode().splitlines()
    ]


async def fill(store: SqlStore, now: datetime) -> None:
    for number in range(7):
        certificate = record(f"{number:x}", issued_at=now - 90 * DAY, not_after=now - 60 * DAY)
        await store.commit(certificate, issued_event(certificate))
    recent = record("ff", issued_at=now, not_after=now - DAY)
    await store.commit(recent, issued_event(recent))
    await store.add_otp(otp("old", created_at=now - 90 * DAY, expires_at=now - 60 * DAY), otp_event("old"))
    await store.add_otp(otp("new", created_at=now, expires_at=now + DAY), otp_event("new"))


def test_a_server_archives_what_is_old_and_says_so(deployment: Deployment) -> None:
    deployment.configure('[retention]\ncertificates = "30d"\notps = "7d"\ninterval = "1s"\n', workers=2)

    async def prepare() -> None:
        async with open_store(default_sqlite_url(deployment.database.parent)) as store:
            await fill(store, datetime.now(UTC))

    asyncio.run(prepare())
    with serving(deployment) as system:
        wait_until(lambda: system.rows("SELECT serial_hex FROM certificates") == [("ff",)])
        wait_until(lambda: system.rows("SELECT id FROM otps") == [("new",)])
        system.enrolled("device")
        wait_until(lambda: {fact.get("what") for fact in system.audit()} >= {"certificates", "otps"})
        (fact,) = [fact for fact in system.audit() if fact.get("what") == "certificates"]
    directory = deployment.directory / "state" / "archive"
    assert (fact["event"], fact["count"]) == ("records_archived", 7)
    assert sorted(each["serial_hex"] for each in archived(directory, "certificates")) == [f"{n:x}" for n in range(7)]
    assert [each["id"] for each in archived(directory, "otps")] == ["old"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    assert archived(directory, "events") == []


class _Events:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    async def announce(self, event: Event) -> None:
        raise AssertionError(f"archiving issues nothing: {event}")

    async def emit(self, event: Event) -> None:
        self.seen.append(event)


class _LosesDeletes:
    """A store whose second deletion fails, as when the database goes away or the process is killed."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._deletions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def delete_rows(self, kind: OldKind, keys: list[Any]) -> None:
        self._deletions += 1
        if self._deletions == 2:
            raise StoreUnavailable("away")
        await self._store.delete_rows(kind, keys)


async def test_what_is_cut_off_between_file_and_database_is_lost_in_neither(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    events = _Events()
    async with open_store(default_sqlite_url(tmp_path)) as store:
        await fill(store, now)

        def job(behind: Any, moment: datetime) -> RetentionJob:
            return RetentionJob(
                store=behind,
                events=events,
                clock=lambda: moment,
                kept={OldKind.CERTIFICATES: 7 * DAY},
                directory=tmp_path / "archive",
                interval=DAY,
                chunk=3,
            )

        with pytest.raises(StoreUnavailable):
            await job(_LosesDeletes(store), now).run_if_due()
        in_database = {row.fields["serial_hex"] for row in await store.old_rows(OldKind.CERTIFICATES, now, 100)}
        in_files = {each["serial_hex"] for each in archived(tmp_path / "archive", "certificates")}
        assert in_database | in_files == {"0", "1", "2", "3", "4", "5", "6", "ff"}
        assert len(in_database) == 5
        assert not await job(store, now + DAY / 2).run_if_due()  # not before it is due again
        assert await job(store, now + DAY).run_if_due()
        assert [row.fields["serial_hex"] for row in await store.old_rows(OldKind.CERTIFICATES, now, 100)] == ["ff"]
    assert {each["serial_hex"] for each in archived(tmp_path / "archive", "certificates")} == set("0123456")
    assert [event.count for event in events.seen if isinstance(event, RecordsArchived)] == [3, 4]


def test_without_a_place_for_the_files_nothing_is_deleted(deployment: Deployment) -> None:
    (deployment.directory / "taken").write_text("a file where the directory should be")
    deployment.configure('[retention]\ncertificates = "30d"\narchive_dir = "taken"\ninterval = "1s"\n')

    async def prepare() -> None:
        async with open_store(default_sqlite_url(deployment.database.parent)) as store:
            await fill(store, datetime.now(UTC))

    asyncio.run(prepare())
    with serving(deployment) as system:
        wait_until(lambda: any("old records stay" in str(line.get("event")) for line in system.server.log()))
        assert system.rows("SELECT count(*) FROM certificates") == [(8,)]
        system.enrolled("device")
