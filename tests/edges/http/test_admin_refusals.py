"""When an address gets 429, and how many refusals become events."""

from __future__ import annotations

import pytest

from kipuka_core.edges.http.admin_refusals import Counted, RefusalCounter
from kipuka_core.model.client_network import client_network


class Site:
    """A counter and a clock that is moved by hand."""

    def __init__(self, **settings: int) -> None:
        self.now = 1000.0
        self.counter = RefusalCounter(clock=lambda: self.now, **settings)

    def count(self, network: str = "192.0.2.1", times: int = 1) -> list[Counted]:
        return [self.counter.count(network) for _ in range(times)]


@pytest.fixture
def site() -> Site:
    return Site()


def test_the_limit_is_300_refusals_in_15_minutes(site: Site) -> None:
    assert {each.retry_after_seconds for each in site.count(times=300)} == {None}
    assert site.count()[0].retry_after_seconds == 900
    site.now += 899.5
    assert site.count()[0].retry_after_seconds == 1
    site.now += 0.5
    assert site.count()[0].retry_after_seconds is None


def test_what_is_answered_with_429_does_not_prolong_the_wait(site: Site) -> None:
    site.count(times=300)
    site.now += 600
    site.count(times=5000)
    site.now += 300
    assert site.count()[0].retry_after_seconds is None


def test_the_window_moves_with_each_refusal(site: Site) -> None:
    for _ in range(300):
        site.count()
        site.now += 2
    assert site.count()[0].retry_after_seconds == 300
    site.now += 300
    assert site.count()[0].retry_after_seconds is None
    assert site.count()[0].retry_after_seconds is not None, "one has left the window, one has come into it"


def test_each_address_has_a_count_of_its_own(site: Site) -> None:
    site.count("192.0.2.1", times=301)
    assert site.count("192.0.2.2")[0].retry_after_seconds is None


def test_an_ipv6_network_counts_as_one(site: Site) -> None:
    for host in range(300):
        site.count(client_network(f"2001:db8::{host:x}"))
    assert site.count(client_network("2001:db8::ffff:1"))[0].retry_after_seconds is not None
    assert site.count(client_network("2001:db8:0:1::1"))[0].retry_after_seconds is None


def test_ten_refusals_of_a_minute_are_events_and_the_first_429_is_one(site: Site) -> None:
    assert [each.is_event for each in site.count(times=300)] == [True] * 10 + [False] * 290
    assert [each.is_event for each in site.count(times=3)] == [True, False, False]


def test_a_minute_later_refusals_are_events_again(site: Site) -> None:
    site.count(times=20)
    site.now += 60
    assert site.count()[0].is_event


def test_many_addresses_together_are_no_more_than_120_events_a_minute(site: Site) -> None:
    events = [site.counter.count(f"192.0.2.{host}").is_event for host in range(200)]
    assert events.count(True) == 120
    site.now += 60
    assert site.count("198.51.100.1")[0].is_event


def test_memory_is_bounded_and_the_longest_silent_address_is_forgotten() -> None:
    site = Site(limit=2, max_networks=3)
    for network in ("a", "b", "c"):
        site.count(network, times=2)
    site.count("a")  # heard of again: "b" is now the one that was silent longest
    site.count("d")
    assert site.count("a")[0].retry_after_seconds is not None
    assert site.count("b")[0].retry_after_seconds is None
