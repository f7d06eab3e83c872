"""Changes of status are counted with what they change; the newest CRL is replaced by a newer one and nothing else."""

import asyncio
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from kipuka_core.edges.store import SqlStore, open_store, schema
from kipuka_core.model.event import CertificateRevoked
from kipuka_core.model.status import CrlFacts, PublishedCrl, RecordedStatus
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import ISSUER, issued_event, on_sqlite, record

EARLIER = NOW - timedelta(days=1)


def crl(number: int, **fields: Any) -> PublishedCrl:
    values: dict[str, Any] = {
        "issuer_key_id": ISSUER,
        "ca_id": "default",
        "number": number,
        "changes": 0,
        "entries": 0,
        "this_update": NOW,
        "next_update": NOW + timedelta(days=7),
        "scheduled_at": NOW,
    }
    return PublishedCrl(CrlFacts(**(values | fields)), f"crl {number}".encode())


async def revoke(store: SqlStore, serial_hex: str, *, reason: int = 1, issuer: str = ISSUER) -> bool:
    event = CertificateRevoked(time=NOW, serial=serial_hex, ca_id="default")
    return await store.revoke_certificate(issuer, serial_hex, reason=reason, now=NOW, event=event)


async def record_all(store: SqlStore, *serials: str, **fields: Any) -> None:
    for each in serials:
        certificate = record(each, **{"request_id": f"of-{each}-{fields.get('issuer_key_id', '')}"} | fields)
        await store.commit(certificate, issued_event(certificate))


async def test_a_revocation_is_counted_once_and_for_its_issuer_alone(store: SqlStore) -> None:
    await record_all(store, "a", "b")
    await record_all(store, "a", issuer_key_id="other")
    assert (await store.revocation_state(ISSUER)).changes == 0
    await revoke(store, "a")
    await revoke(store, "a")  # changes nothing
    assert not await revoke(store, "nowhere")
    assert (await store.revocation_state(ISSUER)).changes == 1
    assert (await store.revocation_state("other")).changes == 0
    await revoke(store, "b", reason=6)
    await revoke(store, "b", reason=4)  # a final reason follows a hold
    assert (await store.revocation_state(ISSUER)).changes == 3
    changed = await store.status_changes(ISSUER, after=0, ended_since=EARLIER)
    assert [(each.serial_hex, each.change, each.reason, each.revoked_at) for each in changed] == [
        ("a", 1, 1, NOW),
        ("b", 3, 4, NOW),
    ]
    assert [each.serial_hex for each in await store.status_changes(ISSUER, after=1, ended_since=EARLIER)] == ["b"]
    assert await store.status_changes(ISSUER, after=3, ended_since=EARLIER) == []


async def test_what_has_ended_long_ago_is_not_read_again(store: SqlStore) -> None:
    await record_all(store, "a", not_after=NOW)
    await revoke(store, "a")
    assert len(await store.status_changes(ISSUER, after=0, ended_since=NOW)) == 1
    assert await store.status_changes(ISSUER, after=0, ended_since=NOW + timedelta(seconds=1)) == []


async def test_the_status_of_what_is_on_record(store: SqlStore) -> None:
    await record_all(store, "a")
    assert await store.recorded_status(ISSUER, "a") == RecordedStatus(None, None)
    await revoke(store, "a")
    assert await store.recorded_status(ISSUER, "a") == RecordedStatus(NOW, 1)
    assert await store.recorded_status(ISSUER, "b") is None
    assert await store.recorded_status("other", "a") is None


@on_sqlite
async def test_the_changes_are_read_from_the_index_alone(store: SqlStore) -> None:
    def plan(batch: Any) -> list[str]:
        query = (
            "EXPLAIN QUERY PLAN SELECT serial_hex, not_after, status_change, status, revoked_at, revocation_reason"
            " FROM certificates WHERE issuer_key_id = 'x' AND status_change > 5 AND status_change IS NOT NULL"
            " AND not_after >= 7 ORDER BY status_change"
        )
        return [row[-1] for row in batch.connection.exec_driver_sql(query)]

    (step,) = await store._read(plan)
    assert "USING COVERING INDEX ix_certificates_status_change (issuer_key_id=? AND status_change>?)" in step


async def test_a_crl_follows_the_one_that_its_maker_has_seen(store: SqlStore) -> None:
    assert await store.newest_crl(ISSUER) is None
    assert await store.publish_crl(crl(5), number_before=None)
    assert not await store.publish_crl(crl(6), number_before=None)
    assert not await store.publish_crl(crl(7), number_before=4)
    assert await store.newest_crl(ISSUER) == crl(5)
    assert await store.publish_crl(crl(6), number_before=5)
    assert not await store.publish_crl(crl(6), number_before=5)
    assert await store.newest_crl(ISSUER) == crl(6)
    assert (await store.revocation_state(ISSUER)).newest == crl(6).facts
    assert await store.publish_crl(crl(1, issuer_key_id="other", ca_id="another"), number_before=None)
    assert [facts.number for facts in await store.all_crls()] == [1, 6]


async def test_of_many_at_once_one_is_published(store: SqlStore, url: str) -> None:
    async with open_store(url) as other:
        for before, number in ((None, 1), (1, 2)):
            outcomes = await asyncio.gather(
                *(
                    each.publish_crl(replace(crl(number), der=b"%d" % position), number_before=before)
                    for position, each in enumerate((store, other) * 10)
                )
            )
            assert sum(outcomes) == 1
            newest = await other.newest_crl(ISSUER)
            assert newest is not None
            assert newest.der == b"%d" % outcomes.index(True)


async def test_the_counter_counts_what_processes_do_at_once(store: SqlStore, url: str) -> None:
    serials = [f"{number:x}" for number in range(1, 41)]
    await record_all(store, *serials)
    async with open_store(url) as other:
        await asyncio.gather(*(revoke((store, other)[number % 2], each) for number, each in enumerate(serials)))
    assert (await store.revocation_state(ISSUER)).changes == 40
    changed = await store.status_changes(ISSUER, after=0, ended_since=EARLIER)
    assert [each.change for each in changed] == list(range(1, 41))


def test_what_was_revoked_before_the_migration_is_the_first_change(tmp_path: Path) -> None:
    path = tmp_path / "kipuka.db"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with sqlite3.connect(path) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(certificates)")]
        for number, status in enumerate(("active", "revoked", "revoked")):
            row = dict.fromkeys(columns, 0) | {"id": number, "serial_hex": str(number), "issuer_key_id": "k"}
            row |= {"status": status, "request_id": None}
            database.execute(f"INSERT INTO certificates VALUES ({', '.join('?' * len(row))})", [*row.values()])
    database.close()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, schema.HEAD)
    engine.dispose()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT * FROM revocation_changes").fetchall() == [("k", 1)]
        found = database.execute("SELECT serial_hex, status_change FROM certificates ORDER BY id").fetchall()
        assert found == [("0", None), ("1", 1), ("2", 1)]
    database.close()
