"""What every event sink has to do, and what a careless one gets wrong."""
# ruff: noqa: S101 - these are tests: asserts are what they are made of

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from kipuka_core.domain.ports import EventSink
from kipuka_core.model.event import EnrolmentRefused, Event
from kipuka_core.testing.contracts.asking import PATIENCE_SECONDS, asked, check_nothing_shows
from kipuka_core.testing.contracts.loop_turns import loop_goes_round
from kipuka_core.testing.contracts.port import PortContract
from kipuka_core.testing.samples import NOW

OpenSink = Callable[[], AbstractAsyncContextManager[EventSink]]
ReadBack = Callable[[], Sequence[dict[str, Any]]]
ODD_REASONS = (
    'two\nlines\r\nand "quotes" \\',
    "separators \u2028 \u2029 \x85 \x1e",
    "NUL \0 and escape \x1b[2J",
    "lone surrogate \ud800",
    "snow ☃ 用户",
    "x" * 70_000,
)


def numbered(number: int, reason: str = "") -> Event:
    """A fact that can be told from others."""
    return EnrolmentRefused(time=NOW, request_id=f"{number:08d}", code="not_allowed", reason=reason)


def numbers(facts: Sequence[dict[str, Any]]) -> list[int]:
    """Which numbered facts these are."""
    return [int(fact["request_id"]) for fact in facts]


async def emitted(port: EventSink, event: Event) -> None:
    """Wait until the event is safe, but not for ever. Raises AssertionError for one that is not."""
    await asked(port.emit, event, expect=type(None))


@pytest.mark.asyncio
class EventSinkContract(PortContract):
    """Subclass with ``provider`` and define the fixture ``read_back() -> Callable[[], Sequence[dict]]``.

    It returns what has arrived, as JSON objects, in order. Override the other fixtures as they apply.
    """

    port_type = EventSink

    @pytest.fixture
    def break_it(self) -> Callable[[], None] | None:
        """Makes what is behind the sink fail; None where that cannot be done."""
        return None

    @pytest.fixture
    def repair_it(self) -> Callable[[], None]:
        """Undoes ``break_it``."""
        return lambda: None

    async def test_an_event_has_arrived_when_emit_returns(self, open_port: OpenSink, read_back: ReadBack) -> None:
        """A required sink stands between a certificate and its client."""
        event = numbered(1)
        async with open_port() as port:
            await emitted(port, event)
            assert list(read_back()) == [event.as_dict()], (
                "the event has not arrived although emit has returned: return when it is safe, and raise when it is not"
            )

    async def test_it_lets_the_event_loop_go_round(self, open_port: OpenSink) -> None:
        """While an event is written, everybody else is served."""
        async with open_port() as port:
            with loop_goes_round(self._package):
                await asyncio.gather(*(emitted(port, numbered(number)) for number in range(5)))
                await port.ping()

    async def test_no_secret_is_shown(
        self, open_port: OpenSink, secrets: Sequence[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither in a repr nor in the log."""
        caplog.set_level(logging.DEBUG)
        async with open_port() as port:
            await emitted(port, numbered(1))
            shown = repr(port)
        check_nothing_shows(secrets, repr_of_the_port=shown, the_log=caplog.text)

    async def test_events_keep_their_order(self, open_port: OpenSink, read_back: ReadBack) -> None:
        """One after the other is written one after the other."""
        async with open_port() as port:
            for number in range(20):
                await emitted(port, numbered(number))
        assert numbers(read_back()) == list(range(20))

    async def test_concurrent_events_all_arrive_exactly_once(self, open_port: OpenSink, read_back: ReadBack) -> None:
        """However they are batched."""
        async with open_port() as port:
            await asyncio.gather(*(emitted(port, numbered(number)) for number in range(300)))
            assert sorted(numbers(read_back())) == list(range(300))

    async def test_odd_texts_stay_in_their_event(self, open_port: OpenSink, read_back: ReadBack) -> None:
        """What a client sent may be in an event; it must not be able to write events of its own."""
        events = [numbered(number, reason) for number, reason in enumerate(ODD_REASONS)]
        async with open_port() as port:
            await asyncio.gather(*(emitted(port, event) for event in events))
        assert list(read_back()) == [event.as_dict() for event in events]

    async def test_a_cancelled_emit_takes_no_other_event_with_it(
        self, open_port: OpenSink, read_back: ReadBack
    ) -> None:
        """Clients hang up while their events, and others', are being written."""
        async with open_port() as port:
            tasks = [asyncio.create_task(port.emit(numbered(number))) for number in range(60)]
            for index, task in enumerate(tasks):
                if index % 3 == 0:
                    await asyncio.sleep(0)
                    task.cancel()
            await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
            kept = [number for number, task in enumerate(tasks) if not task.cancelled()]
            assert [task.exception() for task in tasks if not task.cancelled()] == [None] * len(kept)
            await emitted(port, numbered(60))
            assert {*kept, 60} <= set(numbers(read_back()))
        arrived = numbers(read_back())
        assert len(arrived) == len(set(arrived))

    async def test_closing_waits_for_what_was_emitted(self, open_port: OpenSink, read_back: ReadBack) -> None:
        """The last events of a server are those of its shutdown."""
        async with open_port() as port:
            tasks = [asyncio.create_task(port.emit(numbered(number))) for number in range(5)]
            await asyncio.sleep(0)
        for task in tasks:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await task
        assert numbers(read_back()) == list(range(5))

    async def test_a_closed_sink_raises(self, open_port: OpenSink) -> None:
        """Silence would be taken for safety."""
        async with open_port() as port:
            pass
        with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the sink's affair
            await emitted(port, numbered(1))

    async def test_it_opens_again_and_goes_on(self, open_port: OpenSink, read_back: ReadBack) -> None:
        """What an earlier run wrote stays; two at once (a reload) do not lose each other's events."""
        async with open_port() as old:
            await emitted(old, numbered(1))
            async with open_port() as new:
                await asyncio.gather(emitted(old, numbered(2)), emitted(new, numbered(3)))
        async with open_port() as again:
            await emitted(again, numbered(4))
        arrived = numbers(read_back())
        assert sorted(arrived) == [1, 2, 3, 4]
        assert (arrived[0], arrived[-1]) == (1, 4)

    async def test_a_broken_sink_raises_for_everybody_and_recovers(
        self,
        open_port: OpenSink,
        read_back: ReadBack,
        break_it: Callable[[], None] | None,
        repair_it: Callable[[], None],
    ) -> None:
        """Fail closed: an event that is not safe is an exception, for each one who waits for it."""
        if break_it is None:
            return
        async with open_port() as port:
            break_it()
            outcomes = await asyncio.gather(
                *(emitted(port, numbered(number)) for number in range(10)), return_exceptions=True
            )
            assert all(isinstance(outcome, Exception) for outcome in outcomes)
            repair_it()
            await emitted(port, numbered(99))
            assert numbers(read_back())[-1] == 99
