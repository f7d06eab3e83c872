"""Groups of CAs: who is asked, who is left alone, and that nobody is asked twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from kipuka_core.domain.ca_groups import CaGroup, Circuit, CircuitState
from kipuka_core.errors import CsrRefused, NotAllowed, OutcomeUnknown, Unavailable
from kipuka_core.model.ca_group import Strategy
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.request import Operation
from kipuka_core.model.verdict import Wait
from kipuka_core.testing.pki import make_csr, make_key, make_root
from tests.domain.harness import Harness, MemoryCa
from tests.domain.test_external_cas import RemoteCa, later

AWAY = Unavailable("the CA is away")


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def grouped(harness: Harness, *cas: MemoryCa, strategy: Strategy = Strategy.ORDERED, **weights: int) -> Clock:
    """The door without a label leads to a group of these: a, b, c, …"""
    clock = Clock()
    ids = tuple("abcdefgh"[: len(cas)])
    harness.more_cas = dict(zip(ids, cas, strict=True))
    circuits = {each: Circuit(failures=2, cool_down_seconds=30, clock=clock) for each in ids}
    group = CaGroup(id="group", members=ids, strategy=strategy, weights=weights, circuits=circuits)
    harness.groups = {"group": group}
    harness.label(ca_id="group")
    return clock


def remote(harness: Harness, *script: Wait | Exception | None, name: str = "Another CA") -> RemoteCa:
    ca = RemoteCa(harness, *script)
    ca.authority = make_root(name)
    return ca


async def enrol_some(harness: Harness, count: int) -> None:
    for _ in range(count):
        await harness.enrol(token=await harness.otp())


async def test_the_first_that_is_not_away_is_asked(harness: Harness) -> None:
    first, second = remote(harness, AWAY, AWAY), remote(harness)
    clock = grouped(harness, first, second)
    token = await harness.otp()
    certificate = await harness.enrol(token=token)  # no error for the client
    assert certificate == second.issued[0]
    assert await harness.uses(token) == 1
    await enrol_some(harness, 1)
    assert (len(first.by_request), len(second.issued)) == (2, 2)
    await enrol_some(harness, 5)  # two failures: it is left alone
    assert (len(first.by_request), len(second.issued)) == (2, 7)
    clock.now += 30
    await enrol_some(harness, 3)
    assert (len(first.issued), len(second.issued)) == (3, 7)


async def test_a_ca_in_this_process_takes_over_from_one_outside(harness: Harness) -> None:
    grouped(harness, remote(harness, *[AWAY] * 5), MemoryCa(make_root("Local")))
    token, csr = await harness.otp(), make_csr()
    certificate = await harness.enrol(csr, token=token)
    assert certificate.issuer.rfc4514_string() == "CN=Local"
    assert await harness.enrol(csr, token=token) == certificate
    assert await harness.record_count() == 1


async def test_of_a_half_open_one_a_single_request_is_a_probe(harness: Harness) -> None:
    clock = Clock()
    circuit = Circuit(failures=1, cool_down_seconds=10, clock=clock)
    assert circuit.admits()
    circuit.note(False)
    assert (circuit.state, circuit.admits()) == (CircuitState.OPEN, False)
    clock.now += 10
    assert str(circuit.state) == "half-open"
    assert [circuit.admits() for _ in range(3)] == [True, False, False]
    circuit.note(None)  # the probe never came to the CA
    assert circuit.admits()
    circuit.note(False)
    assert (circuit.state, circuit.rest_seconds) == (CircuitState.OPEN, 10)
    clock.now += 10
    assert circuit.admits()
    clock.now += 60  # nobody has told how that one ended
    assert circuit.admits()
    circuit.note(True)
    assert str(circuit.state) == "closed"


async def test_when_all_are_away_the_client_hears_when_to_come_back(harness: Harness) -> None:
    first, second = remote(harness, *[AWAY] * 9), remote(harness, *[AWAY] * 9)
    clock = grouped(harness, first, second)
    token, csr = await harness.otp(), make_csr()
    for _ in range(2):
        with pytest.raises(Unavailable, match="away"):
            await harness.enrol(csr, token=token)
    clock.now += 10
    with pytest.raises(Unavailable, match="no certification authority") as refused:
        await harness.enrol(csr, token=token)
    assert refused.value.retry_after_seconds == 20
    assert (len(first.by_request), len(second.by_request), await harness.uses(token)) == (2, 2, 0)
    first.script.clear()
    clock.now += 20
    assert await harness.enrol(csr, token=token) == first.issued[0]


async def test_after_an_unknown_outcome_nobody_else_is_asked(harness: Harness) -> None:
    first, second = remote(harness, OutcomeUnknown("no answer"), OutcomeUnknown("no answer")), remote(harness)
    first.breaks_after_signing = True
    grouped(harness, first, second)
    token, csr = await harness.otp(), make_csr()
    with pytest.raises(Unavailable, match="no clear answer"):
        await harness.enrol(csr, token=token)
    assert second.issued == []
    await later(harness)
    assert await harness.enrol(csr, token=token) == first.issued[0]
    with pytest.raises(Unavailable, match="no clear answer"):
        await enrol_some(harness, 1)
    await enrol_some(harness, 1)  # it has failed twice
    assert len(second.issued) == 1


@pytest.mark.parametrize("refusal", [CsrRefused("no such keys"), NotAllowed("not that name")])
async def test_a_refusal_is_an_answer(harness: Harness, refusal: Exception) -> None:
    first, second = remote(harness, *[refusal] * 9), remote(harness)
    grouped(harness, first, second)
    for _ in range(4):
        with pytest.raises(type(refusal)):
            await enrol_some(harness, 1)
    assert (len(first.by_request), second.issued) == (4, [])


async def test_a_request_that_waits_stays_with_its_ca(harness: Harness) -> None:
    first, second = remote(harness, Wait("queued", 30, "order-1")), remote(harness)
    grouped(harness, first, second)
    token, csr = await harness.otp(), make_csr()
    assert await harness.road.enrol(harness.request(csr, token=token)) == Wait("queued", 30)
    await later(harness)
    assert await harness.enrol(csr, token=token) == first.issued[0]
    assert second.by_request == {}


@pytest.mark.parametrize(
    ("strategy", "weights", "wanted"),
    [
        (Strategy.ORDERED, {}, {"a": 60}),
        (Strategy.ROUND_ROBIN, {}, {"a": 20, "b": 20, "c": 20}),
        (Strategy.WEIGHTED, {"a": 3, "b": 2}, {"a": 30, "b": 20, "c": 10}),
    ],
)
def test_requests_are_shared_out(strategy: Strategy, weights: dict[str, int], wanted: dict[str, int]) -> None:
    circuits = {each: Circuit(failures=1, cool_down_seconds=1) for each in "abc"}
    group = CaGroup(id="g", members=("a", "b", "c"), strategy=strategy, weights=weights, circuits=circuits)
    orders = [group.order() for _ in range(60)]
    assert Counter(order[0] for order in orders) == wanted
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)


async def test_certificates_of_every_member_are_renewed_and_their_issuers_are_handed_out(harness: Harness) -> None:
    first, second = remote(harness, None, AWAY, name="First"), remote(harness, name="Second")
    grouped(harness, first, second)
    key = make_key()
    old = await harness.enrol(make_csr(key), token=await harness.otp())
    assert old.issuer.rfc4514_string() == "CN=First"
    chain = await harness.road.chain(harness.labels[""])
    assert chain.certificates == first.authority.chain
    assert chain.previous == second.authority.chain
    renewed = await harness.enrol(
        make_csr(key), chain=(old, *first.authority.chain), operation=Operation.SIMPLEREENROLL
    )
    assert renewed.issuer.rfc4514_string() == "CN=Second"
    again = await harness.enrol(
        make_csr(make_key()), chain=(renewed, *second.authority.chain), operation=Operation.SIMPLEREENROLL
    )
    assert again.issuer.rfc4514_string() == "CN=First"


async def test_a_member_without_a_chain_is_passed_over(harness: Harness) -> None:
    class Hidden(RemoteCa):
        async def chain(self) -> CaChain:
            raise AWAY

    second = remote(harness, name="Second")
    grouped(harness, Hidden(harness), second)
    assert (await harness.road.chain(harness.labels[""])).certificates == second.authority.chain
    await enrol_some(harness, 3)
    assert len(second.issued) == 3
    for ca in harness.more_cas.values():
        assert isinstance(ca, RemoteCa)
    harness.more_cas["b"] = Hidden(harness)
    with pytest.raises(Unavailable):
        await harness.road.chain(harness.labels[""])


async def test_an_approved_request_goes_to_a_member_that_is_there(harness: Harness) -> None:
    first, second = remote(harness, AWAY), remote(harness)
    grouped(harness, first, second)
    harness.labels[""] = replace(harness.labels[""], approval=True)
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    await harness.road.enrol(request)
    harness.now += timedelta(minutes=1)
    await harness.approvals.approve(request.request_id, actor="ana", now=harness.now)
    assert await harness.enrol(csr, token=token) == second.issued[0]
