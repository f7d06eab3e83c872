"""The plugin alone, beside a real inventory: kipuka's contract suite, and what becomes of every kind of answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import kipuka_cmdb_names as plugin
import pytest
import pytest_asyncio
from cryptography import x509
from inventory import TOKEN, Inventory, Reply, Request, record_of_the_device, running_inventory

from kipuka_core import Allow, ConfigurationError, Deny, DenyKind, Policy, Provider, Services, Template, Unavailable
from kipuka_core.testing.clock import Clock
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.pki import make_csr, make_root, name
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template
from kipuka_core.testing.services import make_services

CA = make_root("Inventory CA")
PATIENCE_SECONDS = 30
DNS, IP = "device.plant.example", "192.0.2.7"
PROVIDER: Provider[Policy]
(PROVIDER,) = plugin.kipuka_policies()


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    with running_inventory(CA, tmp_path) as inventory:
        inventory.enter("device", dns=(DNS,), ip=(IP, "2001:db8::7"))
        yield inventory


@pytest.fixture
def table(inventory: Inventory, tmp_path: Path) -> dict[str, Any]:
    return table_for(inventory, tmp_path)


def table_for(inventory: Inventory, directory: Path) -> dict[str, Any]:
    files = {"token_file": directory / "cmdb.token", "trust_anchors": ["cmdb-ca.pem"]}
    return {"url": inventory.url, "timeout": 9, **files}


@pytest.fixture
def services(tmp_path: Path, kipuka_clock: Clock) -> Services:
    return make_services(tmp_path, clock=kipuka_clock)


@pytest_asyncio.fixture
async def policy(table: dict[str, Any], services: Services) -> AsyncIterator[Policy]:
    async with PROVIDER.open(plugin.CmdbSettings(**table), services) as policy:
        yield policy


class TestContract(PolicyContract):
    (provider,) = plugin.kipuka_policies()

    @pytest.fixture
    def settings(self, table: dict[str, Any]) -> Mapping[str, Any]:
        return table


async def judged(policy: Policy, **csr_fields: Any) -> tuple[Template, Any]:
    """What is asked of a policy for a CSR of the device "device": the template that it shapes, and its verdict."""
    csr = sample_csr(make_csr(**csr_fields))
    enrolment = sample_enrolment(csr)
    shaped = await policy.shape(sample_template(csr), enrolment)
    return shaped, await policy.decide(shaped, enrolment)


def refused(answer: tuple[Template, Any]) -> str:
    _, verdict = answer
    assert isinstance(verdict, Deny), verdict
    assert verdict.kind is DenyKind.PERMISSION
    return verdict.reason


# -- what the inventory has --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "san",
    [[f"dns:{DNS}"], [f"dns:{DNS.upper()}"], [f"ip:{IP}"], ["ip:2001:db8:0::7", f"dns:{DNS}"]],
    ids=",".join,
)
async def test_a_device_may_have_names_of_its_record(policy: Policy, san: Sequence[str]) -> None:
    shaped, verdict = await judged(policy, san=san)

    assert verdict == Allow()
    assert len(shaped.san) == len(san)


@pytest.mark.parametrize("subject", [name("device"), name(DNS), name(None, serialNumber="device")], ids=str)
async def test_its_subject_may_say_the_same(policy: Policy, subject: x509.Name) -> None:
    assert (await judged(policy, subject=subject))[1] == Allow()


async def test_a_csr_without_names_gets_those_of_the_record(policy: Policy) -> None:
    shaped, verdict = await judged(policy)

    assert verdict == Allow()
    assert [each.value for each in shaped.san] == [DNS, ip_address(IP), ip_address("2001:db8::7")]


async def test_a_renewal_has_the_names_that_it_renews(policy: Policy, inventory: Inventory) -> None:
    csr = sample_csr(make_csr())
    renewal = replace(sample_enrolment(csr), renewing=CA.leaf().certificate)

    assert (await policy.shape(sample_template(csr), renewal)).san == ()
    old = sample_template(csr, san=(x509.DNSName("old.plant.example"),))
    assert isinstance(await policy.decide(old, renewal), Deny)


@pytest.mark.parametrize(
    "san",
    ["dns:other.plant.example", "ip:192.0.2.8", "uri:urn:dev:device", f"email:{DNS}", "dns:device", f"dns:*.{DNS}"],
)
async def test_a_name_that_is_not_in_the_record_is_refused(policy: Policy, san: str) -> None:
    assert f"'{san}'" in refused(await judged(policy, san=[f"dns:{DNS}", san]))


@pytest.mark.parametrize(
    "subject", [name("other"), name("device", email="root@plant.example"), name("device", UID="root")], ids=str
)
async def test_so_is_one_in_the_subject(policy: Policy, subject: x509.Name) -> None:
    assert "does not have" in refused(await judged(policy, subject=subject, san=[f"dns:{DNS}"]))


async def test_a_name_is_shown_on_one_line_and_cut_off(policy: Policy) -> None:
    cases: tuple[dict[str, Any], ...] = ({"common_name": "evil\n" * 12}, {"san": [f"uri:urn:{'x' * 1000}"]})
    for asked in cases:
        reason = refused(await judged(policy, **asked))

        assert reason.isprintable()
        assert len(reason) < 200


async def test_a_device_that_is_not_active_gets_nothing(policy: Policy, inventory: Inventory) -> None:
    inventory.enter("device", active=False, dns=(DNS,))

    assert "no active device" in refused(await judged(policy, san=[f"dns:{DNS}"]))


async def test_a_device_that_is_not_there_gets_nothing_until_it_is_entered(
    policy: Policy, inventory: Inventory
) -> None:
    record = inventory.records.pop("device")
    assert "no active device" in refused(await judged(policy))

    inventory.records["device"] = record
    assert (await judged(policy))[1] == Allow()


# -- what is kept ------------------------------------------------------------------------------------------------------
async def test_a_record_counts_until_it_is_too_old(policy: Policy, inventory: Inventory, kipuka_clock: Clock) -> None:
    assert (await judged(policy))[1] == Allow()
    inventory.enter("device", active=False)

    kipuka_clock.advance(seconds=59)
    assert (await judged(policy))[1] == Allow()
    assert inventory.asked_for == ["device"]

    kipuka_clock.advance(seconds=1)
    assert "no active device" in refused(await judged(policy))
    assert inventory.asked_for == ["device"] * 2


async def test_a_record_does_not_count_before_it_was_asked_for(
    policy: Policy, kipuka_clock: Clock, inventory: Inventory
) -> None:
    await judged(policy)
    kipuka_clock.advance(seconds=-3600)  # a clock that was set back

    await judged(policy)

    assert inventory.asked_for == ["device"] * 2


async def test_records_of_devices_do_not_mix(policy: Policy, inventory: Inventory) -> None:
    inventory.enter("other", dns=("other.plant.example",))
    csr = sample_csr(make_csr(common_name=None, san=["dns:other.plant.example"]))
    enrolment = sample_enrolment(csr)
    other = replace(enrolment, identity=replace(enrolment.identity, entity_id="other"))

    for _ in range(2):
        assert await policy.decide(sample_template(csr), other) == Allow()
        assert isinstance(await policy.decide(sample_template(csr), enrolment), Deny)


async def test_what_is_kept_does_not_grow_for_ever(
    policy: Policy, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "MAX_KEPT", 3)
    assert isinstance(policy, plugin.CmdbNames)
    csr = sample_csr(make_csr())
    enrolment = sample_enrolment(csr)

    for number in range(8):
        inventory.enter(f"device-{number}")
        identity = replace(enrolment.identity, entity_id=f"device-{number}")
        await policy.decide(sample_template(csr), replace(enrolment, identity=identity))
        assert len(policy._kept) <= 3


@pytest.mark.parametrize("entity_id", ["a&id=device", "../device", "..", "#", "ä/%2e", "device?x=1"])
async def test_the_inventory_is_asked_for_the_very_entity_id(
    policy: Policy, inventory: Inventory, entity_id: str
) -> None:
    csr = sample_csr(make_csr())
    enrolment = sample_enrolment(csr)
    asking = replace(enrolment, identity=replace(enrolment.identity, entity_id=entity_id))

    assert isinstance(await policy.decide(sample_template(csr), asking), Deny)
    assert inventory.asked_for == [entity_id]


# -- an inventory that misbehaves --------------------------------------------------------------------------------------
def with_body(body: bytes, status: int = 200, **headers: str) -> Reply:
    return lambda request: request.answer(status, body, **headers)


def with_record(status: int = 200, **changes: Any) -> Reply:
    """The right answer but for some keys; an ellipsis takes one out."""
    record = {"id": "device", "active": True, "dns": [DNS], "ip": [IP]} | changes
    return with_body(json.dumps({key: value for key, value in record.items() if value is not ...}).encode(), status)


def far_too_much(request: Request) -> None:
    """As fast as the client takes it; with an end, for the sake of who tries what happens without the limit."""
    request.answer(200)
    for _ in range(512):
        request.wfile.write(b" " * 65_536)


def drop_by_drop(request: Request) -> None:
    """Each octet in time for a limit that counts from the one before."""
    request.answer(200)
    while not request.server.is_over.wait(0.05):
        request.wfile.write(b" ")


def never(request: Request) -> None:
    request.server.is_over.wait()


def hang_up(request: Request) -> None:
    request.close_connection = True


def redirect(request: Request) -> None:
    request.answer(302, Location=f"/elsewhere?id={request.device}")


MISBEHAVIOUR: dict[str, Reply] = {
    "an error": with_record(500),
    "refuses us": with_record(403),
    "nothing new": with_body(b"", 304),
    "no content": with_body(b"", 204),
    "a redirect to the right answer": redirect,
    "nothing": with_body(b""),
    "HTML": with_body(b"<html>Welcome</html>"),
    "null": with_body(b"null"),
    "a list": with_body(b"[]"),
    "nested too deeply": with_body(b"[" * 50_000),
    "not UTF-8": with_body(b'{"id": "device\xff", "active": true, "dns": [], "ip": []}'),
    "compressed": with_body(b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
    "another device": with_record(id="device-2"),
    "active in words": with_record(active="true"),
    "active as a number": with_record(active=1),
    "without active": with_record(active=...),
    "without names": with_record(dns=...),
    "names in one text": with_record(dns=DNS),
    "a wildcard": with_record(dns=["*.plant.example"]),
    "a name with a line break": with_record(dns=[f"{DNS}\n"]),
    "too many names": with_record(dns=[f"d{number}.example" for number in range(101)]),
    "a network": with_record(ip=["192.0.2.0/24"]),
    "an address as a number": with_record(ip=[3221225991]),
    "much": with_record(rack="7" * plugin.MAX_BYTES),
    "far too much": far_too_much,
    "hangs up": hang_up,
}


@pytest.mark.parametrize("how", MISBEHAVIOUR)
async def test_an_answer_that_is_none_is_no_consent(policy: Policy, inventory: Inventory, how: str) -> None:
    inventory.reply = MISBEHAVIOUR[how]

    with pytest.raises(Unavailable, match="cannot be asked now"):
        await judged(policy, san=[f"dns:{DNS}"])
    with pytest.raises(Unavailable):
        await judged(policy)  # which shape would give names

    inventory.reply = record_of_the_device
    assert (await judged(policy, san=[f"dns:{DNS}"]))[1] == Allow()


@pytest.mark.parametrize("reply", [never, drop_by_drop])
async def test_so_is_one_that_takes_too_long_as_a_whole(
    reply: Reply, table: dict[str, Any], services: Services, inventory: Inventory
) -> None:
    inventory.reply = reply

    async with PROVIDER.open(plugin.CmdbSettings(**(table | {"timeout": 1})), services) as policy:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(judged(policy), PATIENCE_SECONDS)


async def test_an_inventory_that_is_away_is_no_consent(
    table: dict[str, Any], services: Services, inventory: Inventory, kipuka_clock: Clock
) -> None:
    async with PROVIDER.open(plugin.CmdbSettings(**table), services) as policy:
        assert (await judged(policy))[1] == Allow()
        inventory.shutdown()
        inventory.server_close()

        assert (await judged(policy))[1] == Allow()  # from what is kept
        kipuka_clock.advance(seconds=60)
        with pytest.raises(Unavailable):
            await judged(policy)


@pytest.mark.parametrize("fault", ["another CA", "another name", "expired"])
async def test_a_server_that_is_not_the_inventory_is_not_told_the_token(
    fault: str, tmp_path: Path, services: Services
) -> None:
    authority = make_root("Inventory CA") if fault == "another CA" else CA
    leaf = authority.server(*(["dns:elsewhere.example"] if fault == "another name" else []))
    if fault == "expired":
        leaf = authority.leaf(
            "localhost", ("dns:localhost",), days=1, not_before=leaf.certificate.not_valid_before_utc.replace(year=2020)
        )
    with running_inventory(CA, tmp_path, leaf) as inventory:
        async with PROVIDER.open(plugin.CmdbSettings(**table_for(inventory, tmp_path)), services) as policy:
            with pytest.raises(Unavailable):
                await judged(policy)
        assert inventory.asked_for == []


async def test_no_proxy_of_the_environment_is_asked(
    table: dict[str, Any], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens

    async with PROVIDER.open(plugin.CmdbSettings(**table), services) as policy:
        assert (await judged(policy))[1] == Allow()


@pytest.mark.parametrize("how", ["an error", "HTML", "another device", "hangs up"])
async def test_the_log_says_why_and_nothing_of_the_token(
    policy: Policy, inventory: Inventory, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    inventory.reply = MISBEHAVIOUR[how]

    with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable):
        await judged(policy)

    said = [each.getMessage() for each in caplog.records if each.name == "kipuka_cmdb_names"]
    assert len(said) == 1
    assert len(said[0].removeprefix("the inventory cannot be used: ")) > 5
    assert "\n" not in said[0]
    assert TOKEN not in caplog.text


# -- the start ---------------------------------------------------------------------------------------------------------
def opening(table: dict[str, Any], services: Services, **changes: Any) -> None:
    async def open_and_close() -> None:
        async with PROVIDER.open(plugin.CmdbSettings(**(table | changes)), services):
            pass

    asyncio.run(open_and_close())


def test_an_answer_has_less_time_than_the_plugin(table: dict[str, Any], services: Services) -> None:
    with pytest.raises(ConfigurationError, match=r"cmdb-names\.timeout: must be shorter than \[plugins\] timeout"):
        opening(table, services, timeout=10)


@pytest.mark.parametrize(
    "content", ["", "\n", f"{TOKEN} {TOKEN}", f"{TOKEN}\n{TOKEN}", f"{TOKEN}\0", f"{TOKEN}ä"], ids=ascii
)
def test_what_is_no_token_stops_the_start_and_is_not_shown(
    content: str, table: dict[str, Any], services: Services, tmp_path: Path
) -> None:
    (tmp_path / "cmdb.token").write_text(content, encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"cmdb\.token: does not hold a token in one line") as caught:
        opening(table, services)
    assert TOKEN not in str(caught.value)


def test_a_token_for_everybody_to_read_is_a_warning(table: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "cmdb.token").chmod(0o644)
    said: list[str] = []

    opening(table, make_services(tmp_path, warn=said.append))

    assert "chmod 0600" in said[0]


@pytest.mark.parametrize(
    "url", ["http://cmdb.example/d", "https://u:p@cmdb.example/d", "https://cmdb.example/d?x=1", "cmdb"]
)
def test_the_url_is_https_and_nothing_but_a_place(url: str, table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="url"):
        plugin.CmdbSettings(**(table | {"url": url}))
