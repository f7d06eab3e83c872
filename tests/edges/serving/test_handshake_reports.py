"""Failed handshakes become few events, whatever their number, and none is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from typing import Any

import pytest
from structlog.testing import capture_logs

from kipuka_core.edges.serving.handshake import FailedHandshake, HandshakeCause
from kipuka_core.edges.serving.handshake_reports import HandshakeReports, ReportLimits
from kipuka_core.model.event import HandshakeFailed

HTTP, CLOSED = HandshakeCause.PLAIN_HTTP, HandshakeCause.CLIENT_CLOSED
NEVER = 3600.0


def failed(address: str, cause: HandshakeCause = HTTP) -> FailedHandshake:
    return FailedHandshake(address, cause, "")


class Desk:
    """Takes events, and may be slow or broken."""

    def __init__(self) -> None:
        self.events: list[HandshakeFailed] = []
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False
        self.lost = 0

    async def take(self, event: Any) -> None:
        await self.open.wait()
        if self.broken:
            self.lost += 1
            raise RuntimeError("no disk")
        self.events.append(event)

    def seen(self) -> list[tuple[str, str, int]]:
        return [(event.source_address, event.cause, event.count) for event in self.events]


async def until(condition: Callable[[], bool]) -> None:
    """Poll: what is waited for is done by a task."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(desk: Desk, **limits: Any) -> Any:
    values = {"interval_seconds": NEVER} | limits
    reports = HandshakeReports(desk.take, "est", limits=ReportLimits(**values))
    task = asyncio.create_task(reports.run())
    await asyncio.sleep(0)
    try:
        yield reports
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_each_cause_of_each_client_is_an_event_at_once() -> None:
    desk = Desk()
    async with running(desk) as reports:
        for each in (failed("192.0.2.1"), failed("192.0.2.2"), failed("192.0.2.1", CLOSED)):
            reports.report(each)
        await until(lambda: len(desk.events) >= 3)
        assert desk.seen() == [
            ("192.0.2.1", "plain_http", 1),
            ("192.0.2.2", "plain_http", 1),
            ("192.0.2.1", "client_closed", 1),
        ]
        assert {event.listener for event in desk.events} == {"est"}
        assert "use an https URL" in desk.events[0].reason
    assert len(desk.events) == 3


async def test_what_a_client_repeats_is_one_event_an_interval_and_news_again_after_a_quiet_one() -> None:
    desk = Desk()
    async with running(desk, interval_seconds=0.05) as reports:
        for _ in range(10):
            reports.report(failed("192.0.2.1"))
        await until(lambda: len(desk.events) >= 2)
        assert desk.seen() == [("192.0.2.1", "plain_http", 1), ("192.0.2.1", "plain_http", 9)]
        await until(lambda: not reports._repeats._seen)
        reports.report(failed("192.0.2.1"))
        await until(lambda: len(desk.events) >= 3)
        assert desk.seen()[2] == ("192.0.2.1", "plain_http", 1)
    assert len(desk.events) == 3


async def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    desk = Desk()
    async with running(desk) as reports:
        for number in range(100):
            reports.report(failed(f"2001:db8::{number:x}"))
    assert desk.seen() == [("2001:db8::0", "plain_http", 1), ("2001:db8::63", "plain_http", 99)]


async def test_thousands_of_addresses_are_few_events_and_little_memory_and_all_are_counted() -> None:
    desk = Desk()
    async with running(desk, at_once=5, gathered=7, remembered=100) as reports:
        for turn in range(3):
            for number in range(5000):
                reports.report(failed(str(IPv4Address(0xC0000200 + number)), (HTTP, CLOSED)[number % 2]))
            assert len(reports._repeats._seen) == 100
            assert len(reports._at_once) <= 5, turn
        assert reports.by_cause == {HTTP: 7500, CLOSED: 7500}
    counts: Counter[str] = Counter()
    for address, cause, count in desk.seen():
        counts[cause] += count
        counts["named"] += bool(address)
    assert counts == {"plain_http": 7500, "client_closed": 7500, "named": 5 + 7}
    assert len(desk.events) == 5 + 7 + 2
    assert desk.events[-1].reason.endswith("(from many addresses)")


async def test_the_loudest_are_named() -> None:
    desk = Desk()
    async with running(desk, at_once=0, gathered=1) as reports:
        for address, times in (("192.0.2.1", 2), ("192.0.2.2", 9), ("192.0.2.3", 3)):
            for _ in range(times):
                reports.report(failed(address))
    assert desk.seen() == [("192.0.2.2", "plain_http", 9), ("", "plain_http", 5)]


async def test_the_events_of_many_intervals_stay_bounded_for_each() -> None:
    desk = Desk()
    async with running(desk, interval_seconds=0.02, at_once=2, gathered=2, remembered=10) as reports:
        reported = 0
        for _ in range(200):
            for number in range(10):
                reports.report(failed(f"192.0.2.{number}"))
                reported += 1
            await asyncio.sleep(0.001)
            assert len(reports._repeats._seen) <= 10
    assert sum(count for _, _, count in desk.seen()) == reported
    assert reports.by_cause[HTTP] == reported


async def test_a_desk_that_is_slow_or_broken_neither_blocks_nor_stops_the_reports() -> None:
    desk = Desk()
    async with running(desk) as reports:
        desk.open.clear()
        for number in range(1000):
            reports.report(failed(f"192.0.{number // 250}.{number % 250}"))
        assert desk.events == []
        desk.open.set()
        await until(lambda: len(desk.events) == 20)
    desk.broken = True
    async with running(desk) as reports:
        reports.report(failed("198.51.100.1"))
        await until(lambda: desk.lost == 1)
        desk.broken = False
        reports.report(failed("198.51.100.1", CLOSED))
        await until(lambda: ("198.51.100.1", "client_closed", 1) in desk.seen())


async def test_cancelled_they_finish_what_was_begun_and_say_the_rest() -> None:
    desk = Desk()
    desk.open.clear()
    reports = HandshakeReports(desk.take, "est")
    task = asyncio.create_task(reports.run())
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        reports.report(failed(address))
        await asyncio.sleep(0)
    with capture_logs() as log:
        task.cancel()
        await asyncio.sleep(0)
        desk.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert desk.seen() == [
        ("192.0.2.1", "plain_http", 1),
        ("192.0.2.2", "plain_http", 1),
        ("192.0.2.1", "plain_http", 1),
    ]
    (line,) = log
    assert (line["event"], line["listener"], line["plain_http"]) == ("handshakes that failed since the start", "est", 3)
