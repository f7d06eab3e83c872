import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from kipuka_core.domain.ports import ReservationLost
from kipuka_core.edges.store import SqlStore
from kipuka_core.model.record import RequestState, StoredRequest
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import ISSUER, Clock, issued_event, record, rejected_event, waiting, waiting_event

INTENT, WAITING = RequestState.INTENT, RequestState.WAITING


async def commit(store: SqlStore, request_id: str, serial_hex: str = "1") -> None:
    certificate = record(serial_hex, request_id=request_id)
    await store.commit(certificate, issued_event(certificate))


async def event_names(store: SqlStore) -> list[str]:
    return [event["event"] for event in await store.search_events()]


async def found(store: SqlStore) -> StoredRequest:
    row = await store.find_request("key")
    assert row is not None
    return row


async def test_a_remembered_request_is_found_by_key_and_id(store: SqlStore) -> None:
    request = waiting(client_certificate_der=b"client", source_address="192.0.2.7", tls_version="TLSv1.3")
    assert await store.remember(request, waiting_event()) == request
    assert await store.find_request("key") == request
    assert await store.get_request("first") == request
    assert await store.find_request("other key") is None
    assert await store.get_request("second") is None


async def test_identical_requests_at_once_become_one_row_with_one_event(store: SqlStore) -> None:
    requests = [waiting(f"request-{number}") for number in range(20)]
    rows = await asyncio.gather(*(store.remember(request, waiting_event(request.id)) for request in requests))
    assert {row.id for row in rows} == {"request-0"}
    assert await event_names(store) == ["enrolment_waiting"]


async def test_a_request_that_was_there_before_the_decision_gets_the_decided_row(store: SqlStore, clock: Clock) -> None:
    await store.remember(waiting("first"))
    clock.advance(seconds=10)
    await commit(store, "first")
    assert (await store.remember(waiting("second", created_at=NOW + timedelta(seconds=5)))).id == "first"
    assert (await store.remember(waiting("third", created_at=NOW + timedelta(seconds=11)))).id == "third"


async def test_an_intent_moves_on_to_waiting_and_back_under_its_id(store: SqlStore) -> None:
    await store.remember(waiting(state=INTENT, reason=""))
    row = await store.remember(waiting(state=WAITING, reason="the CA decides", retry_after_seconds=90), waiting_event())
    assert (row.state, row.reason, row.retry_after_seconds) == (WAITING, "the CA decides", 90)
    row = await store.remember(waiting(state=INTENT, reason=""))
    assert (row.state, row.reason) == (INTENT, "the CA decides")
    assert await event_names(store) == ["enrolment_waiting"]


async def test_a_decided_request_is_not_opened_again(store: SqlStore) -> None:
    await store.remember(waiting())
    await commit(store, "first")
    assert (await store.remember(waiting())).state is RequestState.ISSUED


async def test_a_refused_request_is_found_with_its_reason(store: SqlStore) -> None:
    await store.remember(waiting())
    await store.decide_request("first", refused_because="unknown device", event=rejected_event())
    row = await found(store)
    assert (row.state, row.reason, row.decided_at) == (RequestState.REFUSED, "unknown device", NOW)


async def test_a_refusal_of_what_is_issued_changes_nothing_and_leaves_no_event(store: SqlStore) -> None:
    await store.remember(waiting())
    await commit(store, "first")
    await store.decide_request("first", refused_because="too late", event=rejected_event())
    row = await store.get_request("first")
    assert row is not None
    assert row.state is RequestState.ISSUED
    assert await event_names(store) == ["certificate_issued"]


async def test_a_request_that_was_refused_meanwhile_gets_no_certificate(store: SqlStore) -> None:
    await store.remember(waiting())
    await store.decide_request("first", refused_because="unknown device", event=rejected_event())
    with pytest.raises(ReservationLost):
        await commit(store, "first")
    assert await store.find_certificate(ISSUER, "1") is None


async def test_the_certificate_of_a_waiting_request_stays_until_ten_minutes_after_it_was_first_fetched(
    store: SqlStore, clock: Clock
) -> None:
    await store.remember(waiting())
    await commit(store, "first")
    fetched_at = clock.advance(days=3)
    assert (await found(store)).certificate_der == b"certificate 1"
    await store.mark_fetched("first", fetched_at)
    await store.mark_fetched("first", clock.advance(minutes=9))
    assert await store.find_request("key") is not None
    clock.advance(minutes=1)
    assert await store.find_request("key") is None


async def test_an_approved_request_that_goes_through_an_intent_still_waits_to_be_fetched(
    store: SqlStore, clock: Clock
) -> None:
    await store.remember(waiting())
    await store.remember(replace(waiting(), state=INTENT))
    await commit(store, "first")
    clock.advance(days=3)
    assert (await found(store)).state is RequestState.ISSUED


async def test_an_intent_that_is_answered_at_once_is_over_ten_minutes_later(store: SqlStore, clock: Clock) -> None:
    await store.remember(waiting(state=INTENT))
    await commit(store, "first")
    assert (await found(store)).certificate_der == b"certificate 1"
    clock.advance(minutes=10)
    assert await store.find_request("key") is None


async def test_of_several_requests_with_a_key_the_newest_is_found(store: SqlStore, clock: Clock) -> None:
    await store.remember(waiting("first"))
    await store.decide_request("first", refused_because="unknown device", event=rejected_event())
    later = clock.advance(seconds=1)
    await store.remember(waiting("second", created_at=later))
    assert (await found(store)).id == "second"
