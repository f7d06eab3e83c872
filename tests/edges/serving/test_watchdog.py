from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from kipuka_core.edges.serving.watchdog import Watchdog


class Clock:
    """The two methods of an event loop that a watchdog uses, with a time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.created = 0

    def time(self) -> Any:
        return self.now

    def call_at(self, when: Any, callback: Any) -> Any:
        self.created += 1
        timer = Timer(when, callback, self)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.at <= self.now]:
            self.timers.remove(timer)
            timer.callback()


class Timer:
    def __init__(self, at: Any, callback: Any, clock: Any) -> None:
        self.at, self.callback, self.clock = at, callback, clock

    def when(self) -> Any:
        return self.at

    def cancel(self) -> None:
        self.clock.timers.remove(self)


def watch(clock: Clock, on_expired: Callable[[], object]) -> Watchdog:
    return Watchdog(cast("asyncio.AbstractEventLoop", clock), on_expired)


def test_it_fires_once_at_its_deadline() -> None:
    clock, fired = Clock(), []
    watch(clock, lambda: fired.append(clock.now)).set(10)
    clock.advance(9)
    assert fired == []
    clock.advance(1)
    clock.advance(100)
    assert fired == [10]


def test_moving_the_deadline_makes_no_new_timer_until_the_old_one_fires() -> None:
    clock, fired = Clock(), []
    watchdog = watch(clock, lambda: fired.append(clock.now))
    watchdog.set(10)
    for _ in range(5):
        clock.advance(1)
        watchdog.set(None)
        watchdog.set(10)
    assert clock.created == 1
    clock.advance(5)
    assert (fired, clock.created) == ([], 2)
    clock.advance(5)
    assert fired == [15]


def test_without_deadline_nothing_fires() -> None:
    clock, fired = Clock(), []
    watchdog = watch(clock, lambda: fired.append(clock.now))
    watchdog.set(10)
    watchdog.set(None)
    clock.advance(100)
    assert fired == []
    watchdog.set(1)
    clock.advance(1)
    assert fired == [101]


def test_an_earlier_deadline_replaces_the_timer_and_a_later_one_does_not() -> None:
    clock, fired = Clock(), []
    watchdog = watch(clock, lambda: fired.append(clock.now))
    watchdog.set(30)
    watchdog.set_at_most(10)
    watchdog.set_at_most(20)
    clock.advance(10)
    assert fired == [10]


def test_a_cancelled_watchdog_leaves_no_timer_behind() -> None:
    clock = Clock()
    watchdog = watch(clock, lambda: None)
    watchdog.set(10)
    watchdog.cancel()
    assert clock.timers == []
