"""The contract suite for CA backends finds careless ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_builtin.local_ca import PROVIDER, LocalCaSettings
from kipuka_core import Approved, CaBackend, CaChain, Issued, Template, Wait
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.ca_backend import CaBackendContract, check_serials
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.services import make_services

ROOT = pki.make_root()
ISSUING = ROOT.subordinate()
OTHER_SPKI_DER = pki.make_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"


class CarelessCa(CaBackend):
    """Signs, but another template than the approved one."""

    def __init__(self, inner: CaBackend, tamper: Callable[[Template], Template] = lambda template: template) -> None:
        self.inner = inner
        self.tamper = tamper

    async def chain(self) -> CaChain:
        return await self.inner.chain()

    async def issue(self, approved: Approved) -> Issued | Wait:
        return await self.inner.issue(replace(approved, template=self.tamper(approved.template)))


class IssuesCaCertificates(CarelessCa):
    async def issue(self, approved: Approved) -> Issued:
        return Issued(ISSUING.leaf(key=pki.make_key(), ca=True).certificate)


class KeepsTheRequestInItself(CarelessCa):
    async def issue(self, approved: Approved) -> Issued | Wait:
        self.approved = approved
        await asyncio.sleep(0)
        return await self.inner.issue(self.approved)


class AlwaysTheSame(CarelessCa):
    issued: Issued | Wait | None = None

    async def issue(self, approved: Approved) -> Issued | Wait:
        self.issued = self.issued or await self.inner.issue(approved)
        return self.issued


class ReturnsACertificate(CarelessCa):
    async def issue(  # type: ignore[override]  # its mistake
        self, approved: Approved
    ) -> x509.Certificate:
        issued = await self.inner.issue(approved)
        assert isinstance(issued, Issued), issued
        return issued.certificate


class WritesIntoTheTemplate(CarelessCa):
    async def issue(self, approved: Approved) -> Issued | Wait:
        object.__setattr__(approved.template, "ext_key_usage", ())
        return await self.inner.issue(approved)


class ChainOf(CarelessCa):
    def __init__(self, *certificates: x509.Certificate) -> None:
        self.certificates = certificates

    async def chain(self) -> CaChain:
        return CaChain(certificates=self.certificates)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[CaBackend]:
    (tmp_path / "ca.pem").write_bytes(ISSUING.pem + ROOT.pem)
    write_private(tmp_path / "ca.key", pki.key_pem(ISSUING.key))
    settings = LocalCaSettings(cert="ca.pem", key="ca.key", validity_days=9999)
    async with PROVIDER.open(settings, make_services(tmp_path)) as backend:
        yield backend


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"subject": pki.name("another")}, "subject"),
        ({"san": ()}, "SubjectAltName"),
        ({"san": (x509.DNSName("another.example"),)}, "SubjectAltName"),
        ({"spki_der": OTHER_SPKI_DER}, "key"),
        ({"key_usage": frozenset({"digitalSignature", "keyAgreement"})}, "key usage"),
        ({"ext_key_usage": ("1.3.6.1.5.5.7.3.2", SERVER_AUTH)}, "extended key usage"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
async def test_a_ca_that_issues_another_field_fails(local: CaBackend, change: dict[str, Any], error: str) -> None:
    careless = CarelessCa(local, lambda template: replace(template, **change))
    with pytest.raises(AssertionError, match=f"it(s| holds another) {error} (than the|is not the) approved one"):
        await CaBackendContract().test_it_certifies_every_key_type_as_approved(careless)


@pytest.mark.parametrize(
    ("tamper", "error"),
    [
        (lambda template: replace(template, not_after=template.not_after + timedelta(days=1)), "ends later than"),
        (lambda template: replace(template, not_before=template.not_before - timedelta(days=1)), "begins earlier than"),
    ],
)
async def test_a_ca_that_issues_another_validity_fails(
    local: CaBackend, tamper: Callable[[Template], Template], error: str
) -> None:
    with pytest.raises(AssertionError, match=error):
        await CaBackendContract().test_it_certifies_every_key_type_as_approved(CarelessCa(local, tamper))


async def test_a_ca_that_drops_further_extensions_fails(local: CaBackend) -> None:
    careless = CarelessCa(local, lambda template: replace(template, extensions=()))
    with pytest.raises(AssertionError, match="approved further extension is missing"):
        await CaBackendContract().test_approved_further_extensions_are_issued(careless)


async def test_a_ca_that_invents_a_san_fails(local: CaBackend) -> None:
    careless = CarelessCa(local, lambda template: replace(template, san=(x509.DNSName("device"),)))
    with pytest.raises(AssertionError):
        await CaBackendContract().test_a_certificate_without_san_has_none(careless)


@pytest.mark.parametrize(
    ("careless", "test", "error"),
    [
        (
            IssuesCaCertificates,
            "test_it_certifies_every_key_type_as_approved",
            "holds another key",
        ),
        (KeepsTheRequestInItself, "test_concurrent_requests_get_certificates_of_their_own", "approved"),
        (AlwaysTheSame, "test_the_same_request_twice_gives_two_serials", "two requests got one serial"),
        (
            ReturnsACertificate,
            "test_a_certificate_without_san_has_none",
            "answered with Certificate; it has to",
        ),
        (WritesIntoTheTemplate, "test_issuing_leaves_the_approved_template_alone", "leave it as it is"),
    ],
)
async def test_a_careless_ca_fails(local: CaBackend, careless: type[CarelessCa], test: str, error: str) -> None:
    with pytest.raises(AssertionError, match=error):
        await getattr(CaBackendContract(), test)(careless(local))


@pytest.mark.parametrize(
    "certificates",
    [
        (),
        (ISSUING.certificate,),
        (ROOT.certificate, ISSUING.certificate),
        (ISSUING.certificate, pki.make_root().certificate),
        (ISSUING.leaf().certificate, *ISSUING.chain),
    ],
    ids=["empty", "no root", "reversed", "another root", "a leaf"],
)
async def test_a_chain_that_is_none_fails(certificates: tuple[x509.Certificate, ...]) -> None:
    with pytest.raises(AssertionError):
        await CaBackendContract().test_its_chain_leads_from_the_issuer_to_the_root(ChainOf(*certificates))


@pytest.mark.parametrize("serials", [[1, 2, 3], [2**64 + 1, 2**64 + 2], [2**100, 2**100], [2**160], [0]])
def test_serials_that_are_counted_repeated_or_too_long_fail(serials: list[int]) -> None:
    with pytest.raises(AssertionError):
        check_serials(serials)


async def test_a_ca_that_is_another_after_each_start_fails(local: CaBackend) -> None:
    generation = count()
    backends = {0: ChainOf(ROOT.certificate), 1: ChainOf(ISSUING.certificate)}
    with pytest.raises(AssertionError):
        await CaBackendContract().test_it_opens_and_closes_more_than_once(lambda: Reusable(backends[next(generation)]))


class Reusable(nullcontext[CaBackend]):
    """Closes as often as it is told to."""
