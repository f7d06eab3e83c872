from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from kipuka_core.domain.ports import AlreadyIssued, ReservationLost
from kipuka_core.edges.store import SqlStore
from kipuka_core.model.event import CertificateRevoked
from kipuka_core.model.record import CertificateStatus, RecordedCertificate
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import (
    FINGERPRINT,
    ISSUER,
    Clock,
    engine_behind,
    engine_of,
    issued_event,
    on_sqlite,
    otp,
    otp_event,
    record,
    reserve,
    usage_count,
)


async def commit(store: SqlStore, certificate: RecordedCertificate) -> RecordedCertificate:
    await store.commit(certificate, issued_event(certificate))
    return certificate


async def revoke(store: SqlStore, serial_hex: str, reason: int = 1, now: datetime = NOW) -> bool:
    event = CertificateRevoked(time=now, serial=serial_hex, ca_id="default")
    return await store.revoke_certificate(ISSUER, serial_hex, reason=reason, now=now, event=event)


async def test_a_committed_certificate_is_found_as_it_was_recorded(store: SqlStore) -> None:
    certificate = await commit(store, record("ab", not_before=NOW + timedelta(microseconds=1), sans=("ip:192.0.2.1",)))
    assert await store.find_certificate(ISSUER, "ab") == certificate
    assert await store.find_certificate(ISSUER, "ac") is None
    assert await store.find_certificate("b2" * 32, "ab") is None


async def test_a_commit_records_its_event(store: SqlStore) -> None:
    certificate = await commit(store, record("ab"))
    assert await store.search_events() == [issued_event(certificate).as_dict()]


async def test_the_same_issuer_and_serial_are_refused_and_nothing_of_the_second_is_recorded(store: SqlStore) -> None:
    await store.add_otp(otp(), otp_event())
    await commit(store, record("ab"))
    await reserve(store, "second")
    with pytest.raises(AlreadyIssued):
        await commit(store, record("ab", request_id="second", otp_id="otp-1", subject="CN=intruder"))
    assert await usage_count(store) == 0
    assert await store.search_certificates(subject="intruder") == []
    assert [event["event"] for event in await store.search_events()] == ["certificate_issued", "otp_created"]
    await commit(store, record("ac", request_id="second", otp_id="otp-1"))  # its reservation is still there


async def test_a_request_gets_one_certificate(store: SqlStore) -> None:
    await commit(store, record("ab", request_id="only"))
    with pytest.raises(AlreadyIssued):
        await commit(store, record("ac", request_id="only"))


async def test_certificates_that_no_request_asked_for_do_not_exclude_one_another(store: SqlStore) -> None:
    await commit(store, record("ab", request_id=""))
    await commit(store, record("ac", request_id=""))
    assert [found.request_id for found in await store.search_certificates()] == ["", ""]


async def test_a_lost_reservation_records_nothing(store: SqlStore) -> None:
    await store.add_otp(otp(), otp_event())
    with pytest.raises(ReservationLost):
        await commit(store, record("ab", otp_id="otp-1"))
    assert await store.find_certificate(ISSUER, "ab") is None
    assert [event["event"] for event in await store.search_events()] == ["otp_created"]


async def test_a_certificate_is_replayable_for_its_password_and_csr_since_a_moment(store: SqlStore) -> None:
    await store.add_otp(otp(), otp_event())
    await reserve(store, "request-ab")
    certificate = await commit(store, record("ab", otp_id="otp-1"))
    before = NOW - timedelta(minutes=10)
    assert await store.replayable("otp-1", FINGERPRINT, before) == certificate
    assert await store.replayable("otp-1", "other csr", before) is None
    assert await store.replayable("otp-2", FINGERPRINT, before) is None
    assert await store.replayable("otp-1", FINGERPRINT, NOW) is None
    await revoke(store, "ab")
    assert await store.replayable("otp-1", FINGERPRINT, before) is None


async def test_search_finds_names_exactly_or_by_prefix_in_any_case(store: SqlStore) -> None:
    await commit(store, record("1", subject="CN=Pump-7,O=Example", sans=("dns:pump-7.example", "ip:192.0.2.7")))
    await commit(store, record("2", subject="CN=pump-70", sans=(), issued_at=NOW + timedelta(seconds=1)))
    await commit(store, record("3", subject=r"CN=Smith\, John+UID=x", sans=("uri:urn:dev:7",)))

    async def serials(subject: str) -> list[str]:
        return [found.serial_hex for found in await store.search_certificates(subject=subject)]

    assert await serials("pump-7") == ["1"]
    assert await serials("PUMP-7*") == ["2", "1"]
    assert await serials("pump-7.example") == ["1"]
    assert await serials("192.0.2.*") == ["1"]
    assert await serials("smith, john") == ["3"]
    assert await serials("urn:dev:7") == ["3"]
    assert await serials("pump") == []
    assert await serials("pump_7*") == []
    assert await serials("*") == ["2", "3", "1"]


async def test_search_finds_what_was_issued_to_an_entity(store: SqlStore) -> None:
    await commit(store, record("1", entity_id="pump-7", subject="CN=anything"))
    await commit(store, record("2", entity_id="pump-70"))

    assert [found.serial_hex for found in await store.search_certificates(entity_id="pump-7")] == ["1"]
    assert await store.search_certificates(entity_id="PUMP-7") == []


async def test_search_filters_by_serial_and_status_newest_first_within_the_limit(store: SqlStore, clock: Clock) -> None:
    for number in range(1, 6):
        expires = NOW + timedelta(days=1 if number < 3 else 100)
        issued_at = NOW + timedelta(seconds=number)
        await commit(store, record(str(number), not_after=expires, issued_at=issued_at))
    await revoke(store, "5")
    clock.advance(days=1)

    async def serials(**wanted: Any) -> list[str]:
        return [found.serial_hex for found in await store.search_certificates(**wanted)]

    assert await serials() == ["5", "4", "3", "2", "1"]
    assert await serials(limit=2) == ["5", "4"]
    assert await serials(serial_hex="3") == ["3"]
    assert await serials(status="active") == ["4", "3"]
    assert await serials(status="revoked") == ["5"]
    assert await serials(status="expired") == ["2", "1"]
    with pytest.raises(ValueError, match="forgotten"):
        await serials(status="forgotten")


async def test_revoking_keeps_the_first_time_and_reason_except_after_a_hold(store: SqlStore) -> None:
    for serial_hex in ("1", "2"):
        await commit(store, record(serial_hex))
    later = NOW + timedelta(minutes=1)
    assert await revoke(store, "1", reason=1)
    assert await revoke(store, "1", reason=4, now=later)
    assert await revoke(store, "2", reason=6)
    assert await revoke(store, "2", reason=1, now=later)
    assert not await revoke(store, "3")
    first, second = [await store.find_certificate(ISSUER, serial_hex) for serial_hex in ("1", "2")]
    assert first == replace(record("1"), status=CertificateStatus.REVOKED, revoked_at=NOW, revocation_reason=1)
    assert second is not None
    assert (second.revoked_at, second.revocation_reason) == (later, 1)
    names = [event["event"] for event in await store.search_events()]
    assert names.count("certificate_revoked") == 3


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({"subject": "pump*"}, "certificate_names USING PRIMARY KEY (name>? AND name<?)"),
        ({"subject": "pump"}, "certificate_names USING PRIMARY KEY (name=?)"),
        ({"serial_hex": "ab"}, "(serial_hex=?)"),
        ({}, "ix_certificates_issued_at_id"),
    ],
)
@on_sqlite
async def test_a_search_is_a_range_of_an_index(store: SqlStore, url: str, wanted: dict[str, Any], index: str) -> None:
    statements: list[tuple[Any, Any]] = []

    def note(connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, executemany: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine_behind(store._read), "before_cursor_execute", note)
    await store.search_certificates(**wanted)
    engine = engine_of(url)
    with engine.connect() as connection:
        (statement, parameters) = statements[-1]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    engine.dispose()
    assert index in "\n".join(row[3] for row in plan)
