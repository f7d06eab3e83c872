"""Sessions of the console end by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest

from kipuka_core.edges.http.console.chart import HEIGHT, bars
from kipuka_core.edges.http.console.door import safe_next
from kipuka_core.edges.http.console.looks import shown
from kipuka_core.edges.http.console.sessions import IDLE_SECONDS, LONGEST_SECONDS, Sessions
from kipuka_core.model.administrator import Administrator, Role

ANA = Administrator("token:ana", Role.OPERATOR)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_session_ends_when_it_is_not_used(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    cookie = sessions.begin(ANA)
    clock.now += IDLE_SECONDS - 1
    assert sessions.administrator(cookie) is ANA
    clock.now += IDLE_SECONDS - 1
    assert sessions.administrator(cookie) is ANA
    clock.now += IDLE_SECONDS
    assert sessions.administrator(cookie) is None
    clock.now -= IDLE_SECONDS
    assert sessions.administrator(cookie) is None


def test_a_session_ends_however_it_is_used(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    cookie, began = sessions.begin(ANA), clock.now
    while clock.now + IDLE_SECONDS / 2 < began + LONGEST_SECONDS:
        clock.now += IDLE_SECONDS / 2
        assert sessions.administrator(cookie) is ANA
    clock.now = began + LONGEST_SECONDS
    assert sessions.administrator(cookie) is None


def test_sessions_are_told_apart_and_do_not_grow_without_end(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    first = sessions.begin(ANA)
    others = [sessions.begin(ANA) for _ in range(999)]
    assert len({first, *others}) == 1000
    assert sessions.administrator(first) is ANA  # now the newest in use
    sessions.begin(ANA)
    assert sessions.administrator(first) is ANA
    assert sessions.administrator(others[0]) is None
    sessions.end(first)
    assert sessions.administrator(first) is None
    assert sessions.administrator("") is None


def test_where_a_sign_in_leads() -> None:
    assert safe_next("/console/certificates?subject=a b&label=ä") == "/console/certificates?subject=a%20b&label=%C3%A4"
    for elsewhere in ("//x/console/", "https://x/console/", "/console", "/console/\r\nX: y", "/console/sign-in"):
        assert safe_next(elsewhere) == "/console/"


def test_what_cannot_be_seen_is_written_as_its_number() -> None:
    assert shown("a\u202eb\x00c\u200b") == "a\\u{202e}b\\u{0}c\\u{200b}"
    assert shown("Zoë 日本\nnext\tline") == "Zoë 日本\nnext\tline"
    assert shown(None) == ""
    assert shown(5) == 5


def test_the_highest_bar_fills_the_chart_and_the_least_one_is_seen() -> None:
    drawn = bars([(date(2027, 1, 1), 0), (date(2027, 1, 2), 1), (date(2027, 1, 3), 10_000)])
    assert [each.height for each in drawn] == [0, 1.5, HEIGHT]
    assert all(each.y + each.height == HEIGHT for each in drawn)
    assert bars([(date(2027, 1, 1), 0)])[0].height == 0
