"""Refusals of nobody known do not fill the disk, and none is forgotten; those of a known client are told one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from kipuka_core.edges.anonymous_refusals import AnonymousRefusals, limits_for
from kipuka_core.edges.repeats import RepeatLimits
from kipuka_core.model.event import AdminRefused, EnrolmentRefused, Event, ServerStarted
from kipuka_core.testing.samples import NOW

NEVER = 3600.0


def refused(address: str = "192.0.2.1", code: str = "not_authenticated", **fields: Any) -> EnrolmentRefused:
    return EnrolmentRefused(time=NOW, request_id="r", source_address=address, code=code, reason="who?", **fields)


class Desk:
    """What was told, in order: at once, and when it was gathered."""

    def __init__(self, **limits: Any) -> None:
        values: dict[str, Any] = {"interval_seconds": NEVER, "first": 3, "at_once": 36} | limits
        self.refusals = AnonymousRefusals(RepeatLimits(**values))
        self.gathered: list[Any] = []

    async def take(self, event: Event) -> None:
        self.gathered.append(event)

    def told(self, *events: Event) -> list[bool]:
        return [self.refusals.is_told(event) for event in events]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.refusals.run(self.take))
        await asyncio.sleep(0)
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_are_told_in_full_and_the_rest_as_one_event() -> None:
    desk = Desk()
    async with desk.running():
        assert desk.told(*[refused(label="factory", operation="simpleenroll")] * 10) == [True] * 3 + [False] * 7
    (event,) = desk.gathered
    assert (event.source_address, event.code, event.count, event.reason) == (
        "192.0.2.1",
        "not_authenticated",
        7,
        "who?",
    )
    assert (event.request_id, event.label, event.operation) == ("", "", "")


async def test_a_known_client_is_told_each_time_and_counts_for_nobody_else() -> None:
    desk = Desk()
    async with desk.running():
        assert all(desk.told(*[refused(actor="device-1")] * 50))
        assert all(desk.told(*[ServerStarted(time=NOW, version="1")] * 50))
        assert desk.told(refused()) == [True]
    assert desk.gathered == []


async def test_each_address_and_each_kind_is_told_of() -> None:
    desk = Desk(first=1)
    async with desk.running():
        mine = [refused(), refused(code="not_found"), refused("192.0.2.2")]
        admin = AdminRefused(time=NOW, source_address="192.0.2.1", code="not_found", path="/admin/cas")
        assert all(desk.told(*mine, admin))
        assert not any(desk.told(*mine, admin, admin))
    found = {(event.name, event.source_address, event.code): event.count for event in desk.gathered}
    assert found == {
        ("enrolment_refused", "192.0.2.1", "not_authenticated"): 1,
        ("enrolment_refused", "192.0.2.1", "not_found"): 1,
        ("enrolment_refused", "192.0.2.2", "not_authenticated"): 1,
        ("admin_refused", "192.0.2.1", "not_found"): 2,
    }


async def test_an_ipv6_network_is_one_client() -> None:
    desk = Desk()
    async with desk.running():
        assert sum(desk.told(*(refused(f"2001:db8::{host:x}") for host in range(100)))) == 3
    assert [event.count for event in desk.gathered] == [97]


async def test_many_addresses_are_bounded_too_and_every_refusal_is_counted() -> None:
    desk = Desk(first=1, at_once=20, gathered=5, remembered=50)
    async with desk.running():
        addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(1000)]
        told = sum(desk.told(*(refused(address) for address in addresses), refused("10.0.0.30"), refused("10.0.0.30")))
    assert told == 20
    assert len(desk.gathered) == 6
    assert told + sum(event.count for event in desk.gathered) == 1002
    assert (desk.gathered[0].source_address, desk.gathered[0].count) == ("10.0.0.30", 3)
    assert (desk.gathered[-1].source_address, desk.gathered[-1].reason) == ("", "from many addresses")


async def test_who_goes_on_stays_gathered_and_who_was_quiet_is_news_again() -> None:
    desk = Desk(first=2)
    repeats = desk.refusals._repeats
    assert desk.told(*[refused()] * 4) == [True, True, False, False]
    assert [each.count for each in repeats.gathered()] == [2]
    assert desk.told(refused()) == [False]
    assert [each.count for each in repeats.gathered()] == [1]
    assert repeats.gathered() == []
    assert desk.told(refused()) == [True]


@pytest.mark.parametrize("in_full", [1, 10])
def test_the_setting_says_how_many(in_full: int) -> None:
    refusals = AnonymousRefusals(limits_for(in_full))
    assert sum(refusals.is_told(replace(refused(), request_id=str(number))) for number in range(100)) == in_full
