"""The server's own certificate by an own CA: what is in it, where it is recorded, and what cannot be had."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core import Approved, CaBackend, CaChain, ConfigurationError, Issued, Wait
from kipuka_core.domain.rules import CMC_RA
from kipuka_core.errors import PostcheckFailed, StoreUnavailable
from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.model.key_usage import key_usage_names
from kipuka_core.model.names import common_names, san_of
from kipuka_core.testing import pki
from kipuka_core.testing.pki import make_key
from tests.tls_material.own_ca_kit import AwayCa, OwnCa, own_ca

NAMES = (x509.DNSName("est.example.com"), x509.IPAddress(ip_address("192.0.2.7")))
VALIDITY = timedelta(days=90)


@pytest.fixture
async def ca(tmp_path: Path) -> AsyncIterator[OwnCa]:
    async with own_ca(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("key_type", "usages"),
    [("ecdsa256", {"digitalSignature"}), ("rsa2048", {"digitalSignature", "keyEncipherment"})],
)
async def test_it_is_a_certificate_for_an_est_server(ca: OwnCa, key_type: str, usages: set[str]) -> None:
    key = make_key(key_type)

    leaf, *above = await ca.certificates().issue(key, NAMES, validity=VALIDITY)

    assert leaf.public_key() == key.public_key()
    assert common_names(leaf.subject) == ("est.example.com",)
    assert san_of(leaf) == NAMES
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH, x509.ObjectIdentifier(CMC_RA)]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert key_usage_names(usage.value) == usages
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    chain = await ca.certificates().chain()
    assert tuple(above) == chain.certificates[:-1], "the intermediates, and not the root"
    leaf.verify_directly_issued_by(chain.issuing)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == VALIDITY


async def test_it_is_on_record_with_an_event_like_every_other(ca: OwnCa) -> None:
    leaf, *_ = await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY)

    (record,) = await ca.records()
    assert (record.serial_hex, record.label, record.entity_id) == (serial_hex(leaf), "", "kipuka-server")
    assert record.sans == ("dns:est.example.com", "ip:192.0.2.7")
    (event,) = await ca.store.search_events()
    assert (event["event"], event["serial"]) == ("certificate_issued", serial_hex(leaf))
    assert (event["operation"], event["actor"]) == ("server_certificate", "kipuka-server")


async def test_nothing_is_handed_out_that_could_not_be_recorded(tmp_path: Path) -> None:
    async with own_ca(tmp_path) as ca:
        certificates = ca.certificates()
    with pytest.raises((StoreUnavailable, RuntimeError)):  # the store is closed
        await certificates.issue(make_key(), NAMES, validity=VALIDITY)


async def test_it_does_not_outlive_its_ca_nor_what_the_ca_gives(tmp_path: Path) -> None:
    async with own_ca(tmp_path, pki.make_root().subordinate(days=40), validity_days=20) as ca:
        by_ca, *_ = await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY)
        assert by_ca.not_valid_after_utc - by_ca.not_valid_before_utc == timedelta(days=20)
        ca.later(30)
        issuer = (await ca.certificates().chain()).issuing
        at_the_end, *_ = await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY)
        assert at_the_end.not_valid_after_utc == issuer.not_valid_after_utc
        ca.later(10)
        with pytest.raises(ConfigurationError, match="main: the CA's own certificate is at its end"):
            await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY)


async def test_a_root_that_issues_by_itself_is_not_sent(tmp_path: Path) -> None:
    async with own_ca(tmp_path, pki.make_root()) as ca:
        assert len(await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY)) == 1


async def test_a_name_too_long_for_a_common_name_is_in_the_critical_subject_alternative_name(ca: OwnCa) -> None:
    long = ".".join(["a" * 30] * 3)
    leaf, *_ = await ca.certificates().issue(make_key(), [x509.DNSName(long)], validity=VALIDITY)
    assert leaf.subject.rdns == []
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


@pytest.mark.parametrize("names", [[], [x509.UniformResourceIdentifier("https://a.example")], [x509.RFC822Name("a@b")]])
async def test_only_servers_can_be_named(ca: OwnCa, names: list[x509.GeneralName]) -> None:
    with pytest.raises(ConfigurationError, match="DNS names and IP addresses"):
        await ca.certificates().issue(make_key(), names, validity=VALIDITY)
    assert await ca.records() == []


async def test_a_ca_that_is_not_there_is_named_with_those_that_are(ca: OwnCa) -> None:
    with pytest.raises(ConfigurationError, match=r"^other: there is no \[\[ca\]\] with this id; known: main$"):
        await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY, ca_id="other")


class _Waiting(AwayCa):
    external = True

    async def issue(self, approved: Approved) -> Issued | Wait:
        return Wait("a person looks at it")


async def test_a_ca_that_lets_wait_is_an_error_and_leaves_no_intent(ca: OwnCa) -> None:
    ca.cas["main"] = _Waiting(await ca.cas["main"].chain())
    with pytest.raises(ConfigurationError, match="main: this CA does not issue at once"):
        await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY)
    assert await ca.records() == []
    assert await ca.store._read(lambda batch: batch.connection.exec_driver_sql("SELECT id FROM requests").all()) == []


class _Careless(AwayCa):
    """Issues to itself what it likes."""

    def __init__(self, chain: CaChain, authority: pki.Authority) -> None:
        super().__init__(chain)
        self._authority = authority

    async def issue(self, approved: Approved) -> Issued | Wait:
        return Issued(self._authority.server("dns:est.example.com").certificate)


async def test_what_the_ca_returns_is_checked(tmp_path: Path) -> None:
    authority = pki.make_root().subordinate()
    async with own_ca(tmp_path, authority) as ca:
        ca.cas["main"] = _Careless(await ca.cas["main"].chain(), authority)
        with pytest.raises(PostcheckFailed):
            await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY)
        assert await ca.records() == []


async def test_a_dry_run_shows_what_would_be_issued_and_asks_nobody(ca: OwnCa) -> None:
    away: CaBackend = AwayCa(await ca.cas["main"].chain())
    real = (await ca.certificates().issue(make_key(), NAMES, validity=VALIDITY))[0]
    ca.cas["main"] = away

    leaf, *above = await ca.certificates(dry_run=True).issue(make_key(), NAMES, validity=VALIDITY)

    assert (leaf.subject, leaf.issuer, san_of(leaf)) == (real.subject, real.issuer, san_of(real))
    assert leaf.not_valid_after_utc == real.not_valid_after_utc
    assert len(above) == 1
    with pytest.raises(InvalidSignature):
        leaf.verify_directly_issued_by(above[0])
    assert len(await ca.records()) == 1
