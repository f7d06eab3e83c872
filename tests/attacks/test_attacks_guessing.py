"""Guessing secrets: many attempts at once, and from many addresses of one network."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kipuka_core.domain.authenticate import Authentication
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import Authenticator, LockoutLimits
from kipuka_core.edges.events import Events
from kipuka_core.edges.store import SqlStore, open_store
from kipuka_core.edges.store.engine import default_sqlite_url
from kipuka_core.errors import LockedOut, NotAuthenticated, WrongSecret
from kipuka_core.model.client_network import client_network
from kipuka_core.model.identity import ClientIdentity, Offer
from kipuka_core.testing.samples import sample_label, sample_offer

LIMITS = LockoutLimits(max_failures=3)
LABEL = replace(sample_label(), auth_order=(("slow",),))


class SlowAuthenticator(Authenticator):
    """Verifies one password after the other, each when the test lets it."""

    def __init__(self) -> None:
        self.asked: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.may_answer: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def authenticate(self, offer: Offer) -> ClientIdentity:
        assert offer.credentials is not None
        password = offer.credentials.password
        self.asked[password].set()
        await self.may_answer[password].wait()
        if password != "right":
            raise WrongSecret(offer.credentials.username)
        return ClientIdentity(authenticator="slow", entity_id=offer.credentials.username)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    async with open_store(default_sqlite_url(tmp_path)) as opened:
        yield opened


def authentication(slow: SlowAuthenticator, store: SqlStore) -> Authentication:
    guard = Guard()
    return Authentication(
        authenticators={"slow": slow}, guard=guard, store=store, events=Events((), store, guard), limits=LIMITS
    )


def guess(password: str, address: str = "192.0.2.7") -> Offer:
    offer = sample_offer(username="victim", password=password, label=LABEL)
    return replace(offer, connection=replace(offer.connection, source_address=address))


async def test_guesses_that_were_sent_at_once_tell_nothing_after_the_lockout(store: SqlStore) -> None:
    slow = SlowAuthenticator()
    identify = authentication(slow, store).identify
    passwords = ["wrong-1", "wrong-2", "wrong-3", "wrong-4", "right"]
    tasks = {password: asyncio.ensure_future(identify(guess(password))) for password in passwords}
    outcomes: dict[str, BaseException | None] = {}
    for password in passwords:
        await slow.asked[password].wait()
    for password in passwords:  # all of them are past the first look at the lockouts
        slow.may_answer[password].set()
        (outcome,) = await asyncio.gather(tasks[password], return_exceptions=True)
        outcomes[password] = outcome if isinstance(outcome, BaseException) else None

    assert [type(outcomes[password]) for password in passwords[:3]] == [NotAuthenticated] * 3
    assert [type(outcomes[password]) for password in passwords[3:]] == [LockedOut] * 2


async def test_the_addresses_of_one_ipv6_network_are_one_guesser(store: SqlStore) -> None:
    slow = SlowAuthenticator()
    for password in ("1", "2", "3", "4", "right"):
        slow.may_answer[password].set()
    identify = authentication(slow, store).identify
    for number in ("1", "2", "3"):
        with pytest.raises(NotAuthenticated):
            await identify(guess(number, f"2001:db8::{number}"))
    with pytest.raises(LockedOut):
        await identify(guess("4", "2001:db8:0:0:ffff::4"))
    assert (await identify(guess("right", "2001:db8:0:1::1"))).entity_id == "victim"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
        ("unix:/socket", "unix:/socket"),
    ],
)
def test_one_client_is_an_ipv4_address_or_an_ipv6_network(address: str, network: str) -> None:
    assert client_network(address) == network
