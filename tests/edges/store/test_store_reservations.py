import asyncio
from datetime import timedelta

import pytest

from kipuka_core.domain.ports import ReservationLost
from kipuka_core.edges.store import SqlStore
from kipuka_core.model.event import OtpRevoked
from kipuka_core.model.record import Reservation
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import (
    issued_event,
    otp,
    otp_event,
    record,
    rejected_event,
    reserve,
    usage_count,
    waiting,
)

LATER = NOW + timedelta(days=30)


@pytest.fixture
async def stocked(store: SqlStore) -> SqlStore:
    """A store with one single-use password."""
    await store.add_otp(otp(), otp_event())
    return store


async def commit(store: SqlStore, request_id: str, serial_hex: str = "1", otp_id: str = "otp-1") -> None:
    certificate = record(serial_hex, request_id=request_id, otp_id=otp_id)
    await store.commit(certificate, issued_event(certificate))


async def test_a_free_password_is_reserved(stocked: SqlStore) -> None:
    assert await reserve(stocked) is Reservation.RESERVED


async def test_an_unknown_password_is_unknown(stocked: SqlStore) -> None:
    assert await reserve(stocked, otp_id="nobody's") is Reservation.UNKNOWN


async def test_a_reserved_single_use_password_is_busy_for_another_request_even_with_the_same_csr(
    stocked: SqlStore,
) -> None:
    await reserve(stocked, "first")
    assert await reserve(stocked, "second") is Reservation.BUSY


async def test_reserving_twice_for_the_same_request_takes_one_use(store: SqlStore) -> None:
    await store.add_otp(otp(max_usage=2), otp_event())
    assert await reserve(store, "first") is Reservation.RESERVED
    assert await reserve(store, "first") is Reservation.RESERVED
    assert await reserve(store, "second") is Reservation.RESERVED
    assert await reserve(store, "third") is Reservation.BUSY


async def test_uses_and_reservations_together_stay_within_max_usage(store: SqlStore) -> None:
    await store.add_otp(otp(max_usage=3), otp_event())
    await reserve(store, "first")
    await commit(store, "first")
    assert [await reserve(store, name) for name in ("second", "third", "fourth")] == [
        Reservation.RESERVED,
        Reservation.RESERVED,
        Reservation.BUSY,
    ]


async def test_of_fifty_concurrent_requests_exactly_one_reserves_a_single_use_password(stocked: SqlStore) -> None:
    outcomes = await asyncio.gather(*(reserve(stocked, f"request-{number}") for number in range(50)))
    assert sorted(outcomes) == [Reservation.BUSY] * 49 + [Reservation.RESERVED]


async def test_a_released_password_can_be_reserved_again(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    await stocked.release("first")
    assert await reserve(stocked, "second") is Reservation.RESERVED


async def test_releasing_what_was_never_reserved_changes_nothing(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    await stocked.release("second")
    assert await reserve(stocked, "second") is Reservation.BUSY


async def test_a_committed_password_is_used(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    await commit(stocked, "first")
    assert await reserve(stocked, "second") is Reservation.USED
    assert await usage_count(stocked) == 1


async def test_an_expired_password_is_expired_from_that_very_moment_on(stocked: SqlStore) -> None:
    assert await reserve(stocked, now=NOW + timedelta(hours=24)) is Reservation.EXPIRED
    assert await reserve(stocked, now=NOW + timedelta(hours=24, microseconds=-1)) is Reservation.RESERVED


async def test_a_revoked_password_is_revoked_and_loses_its_reservations(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    assert await stocked.revoke_otp("otp-1", now=NOW, event=OtpRevoked(time=NOW, otp_id="otp-1"))
    assert await reserve(stocked, "second") is Reservation.REVOKED
    with pytest.raises(ReservationLost):
        await commit(stocked, "first")


async def test_a_password_for_one_label_is_refused_at_another(store: SqlStore) -> None:
    await store.add_otp(otp(label="factory"), otp_event())
    assert await reserve(store, label="") is Reservation.OTHER_LABEL
    assert await reserve(store, label="factory") is Reservation.RESERVED


async def test_a_password_for_the_door_without_label_is_refused_at_a_label(store: SqlStore) -> None:
    await store.add_otp(otp(label=""), otp_event())
    assert await reserve(store, label="factory") is Reservation.OTHER_LABEL


async def test_a_lease_that_ran_out_gives_way_and_its_late_commit_is_lost(stocked: SqlStore) -> None:
    await reserve(stocked, "first", lease_seconds=60)
    assert await reserve(stocked, "second", now=NOW + timedelta(seconds=60)) is Reservation.RESERVED
    with pytest.raises(ReservationLost):
        await commit(stocked, "first")
    await commit(stocked, "second", "2")
    assert await usage_count(stocked) == 1


async def test_a_commit_needs_its_own_reservation_and_not_anothers(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    with pytest.raises(ReservationLost):
        await commit(stocked, "second")
    assert await usage_count(stocked) == 0


async def test_a_waiting_request_keeps_its_reservation_past_lease_expiry_and_release(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    await stocked.remember(waiting("first", otp_id="otp-1"))
    await stocked.release("first")
    assert await reserve(stocked, "second", csr_fingerprint="other", now=NOW + timedelta(hours=1)) is Reservation.BUSY


async def test_the_repeated_request_takes_the_waiting_reservation_over_even_after_expiry(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    await stocked.remember(waiting("first", otp_id="otp-1"))
    assert await reserve(stocked, "second", now=LATER) is Reservation.RESERVED
    assert await reserve(stocked, "other", now=LATER, csr_fingerprint="other") is Reservation.EXPIRED
    await commit(stocked, "second")
    assert await usage_count(stocked) == 1


async def test_the_waiting_reservation_is_not_taken_over_at_another_label(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    await stocked.remember(waiting("first", otp_id="otp-1"))
    assert await reserve(stocked, "second", label="other") is Reservation.BUSY


@pytest.mark.parametrize("committing_id", ["first", "second"])
async def test_an_approval_uses_the_reservation_up_under_either_id_and_closes_the_row(
    stocked: SqlStore, committing_id: str
) -> None:
    await reserve(stocked, "first")
    await stocked.remember(waiting("first", otp_id="otp-1"))
    await reserve(stocked, "second")
    await stocked.release("second")  # what the road does for a request that is answered with 202 again
    await commit(stocked, committing_id)
    row = await stocked.get_request("first")
    assert row is not None
    assert (row.state, row.certificate_der) == ("issued", b"certificate 1")
    assert await reserve(stocked, "third") is Reservation.USED


async def test_a_rejection_frees_the_password_under_whatever_id_it_was_asked_last(stocked: SqlStore) -> None:
    await reserve(stocked, "first")
    await stocked.remember(waiting("first", otp_id="otp-1"))
    await reserve(stocked, "second")
    await stocked.decide_request("first", refused_because="unknown device", event=rejected_event())
    assert await reserve(stocked, "third", csr_fingerprint="other") is Reservation.RESERVED


async def test_passwords_are_found_by_hash_entity_and_list(store: SqlStore) -> None:
    older, newer = otp("older"), otp("newer", created_at=NOW + timedelta(seconds=1), entity_id="other")
    for each in (older, newer):
        await store.add_otp(each, otp_event(each.id))
    assert await store.find_otp(older.token_hash) == older
    assert await store.find_otp(b"no such hash") is None
    assert await store.list_otps() == [newer, older]
    assert await store.knows_otp_entity("other")
    assert not await store.knows_otp_entity("nobody")


async def test_revoking_twice_keeps_the_first_time_and_records_one_event(stocked: SqlStore) -> None:
    for minutes in (1, 2):
        revoked = OtpRevoked(time=NOW, otp_id="otp-1")
        assert await stocked.revoke_otp("otp-1", now=NOW + timedelta(minutes=minutes), event=revoked)
    (listed,) = await stocked.list_otps()
    assert listed.revoked_at == NOW + timedelta(minutes=1)
    assert [event["event"] for event in await stocked.search_events()] == ["otp_revoked", "otp_created"]
    assert not await stocked.revoke_otp("nobody's", now=NOW, event=OtpRevoked(time=NOW, otp_id="nobody's"))
