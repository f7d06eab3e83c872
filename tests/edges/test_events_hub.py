"""The event hub: what becomes of an event when a sink fails, and what is said of the sink."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import EventSink, Store
from kipuka_core.edges.anonymous_refusals import AnonymousRefusals, limits_for
from kipuka_core.edges.events import ConfiguredSink, Events
from kipuka_core.errors import Unavailable
from kipuka_core.model.event import EnrolmentRefused, Event, ServerStarted
from kipuka_core.testing.samples import NOW

STARTED = ServerStarted(time=NOW, version="1")


class Sink(EventSink):
    def __init__(self) -> None:
        self.names: list[str] = []
        self.broken = False

    async def emit(self, event: Event) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.names.append(event.name)


class Memory:
    def __init__(self) -> None:
        self.events: list[Any] = []

    async def add_event(self, event: Event) -> None:
        self.events.append(event)


class Site:
    def __init__(self, *, required: bool) -> None:
        self.file, self.syslog, self.store = Sink(), Sink(), Memory()
        self.hub = Events(
            [ConfiguredSink("jsonl", self.file, required), ConfiguredSink("syslog", self.syslog, False)],
            cast("Store", self.store),
            Guard(),
            AnonymousRefusals(limits_for(2)),
        )

    def stored(self) -> list[str]:
        return [event.name for event in self.store.events]


@pytest.mark.parametrize("required", [True, False])
async def test_a_sink_that_fails_is_told_of_once_and_again_when_it_is_back(required: bool) -> None:
    site = Site(required=required)
    await site.hub.emit(STARTED)
    site.file.broken = True
    for _ in range(3):
        await site.hub.emit(STARTED)
    failed = next(event for event in site.store.events if event.name == "audit_sink_failed")
    assert (failed.sink, failed.required) == ("jsonl", required)
    assert f"{__name__}.Sink.emit raised OSError in line " in failed.reason
    site.file.broken = False
    await site.hub.emit(STARTED)
    await site.hub.emit(STARTED)
    started = "server_started"
    assert site.syslog.names == [
        started, "audit_sink_failed", *[started] * 3, "audit_sink_restored", *[started] * 2,
    ]  # fmt: skip
    assert site.file.names == [started, started, "audit_sink_restored", started]
    assert sorted(site.stored()) == ["audit_sink_failed", "audit_sink_restored", *[started] * 6]


async def test_a_required_sink_that_fails_stops_what_is_announced_and_an_optional_one_does_not() -> None:
    site = Site(required=True)
    site.syslog.broken = True
    await site.hub.announce(STARTED)
    site.file.broken = True
    with pytest.raises(Unavailable, match="cannot write its audit log"):
        await site.hub.announce(STARTED)
    site.file.broken = False
    await site.hub.announce(STARTED)


async def test_all_sinks_may_fail_and_the_store_has_all() -> None:
    site = Site(required=True)
    site.file.broken = site.syslog.broken = True
    await site.hub.emit(STARTED)
    assert sorted(site.stored()) == ["audit_sink_failed", "audit_sink_failed", "server_started"]


async def test_what_is_gathered_is_in_no_sink_and_not_in_the_store() -> None:
    site = Site(required=True)
    for _ in range(5):
        await site.hub.emit(EnrolmentRefused(time=NOW, source_address="192.0.2.1", code="not_found"))
    assert len(site.file.names) == len(site.syslog.names) == len(site.stored()) == 2
