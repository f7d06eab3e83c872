"""What kipuka says that CFSSL makes of a name is what CFSSL makes of it; what it would change is not asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kipuka_core import CsrRefused, Issued, NotAllowed
from kipuka_core.testing.contracts.ca_backend import check_as_approved
from kipuka_core.testing.pki import name
from tests.cfssl.cfssl_kit import Opened, approved_for
from tests.cfssl.cfssl_server import Cfssl


def subject(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


CN, O, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME  # noqa: E741
SUBJECTS = {
    "only a name": subject((CN, "device")),
    "another order": subject((CN, "device"), (O, "Example"), (NameOID.COUNTRY_NAME, "DE")),
    "two of one kind": subject((O, "Example"), (OU, "Zeta"), (OU, "Alpha"), (CN, "device")),
    "all that it keeps": subject(
        (NameOID.SERIAL_NUMBER, "77"), (CN, "device"), (NameOID.LOCALITY_NAME, "Köln"), (O, "Straße & Söhne"),
        (NameOID.STATE_OR_PROVINCE_NAME, "NRW"), (NameOID.COUNTRY_NAME, "DE"), (OU, "Lager"),
    ),
    "what it drops": subject((NameOID.USER_ID, "u1"), (CN, "device"), (NameOID.EMAIL_ADDRESS, "a@example.com")),
    "two common names": subject((CN, "first"), (CN, "second")),
    "nothing": x509.Name([]),
}  # fmt: skip
SANS = [
    ("dns:device.example",),
    ("dns:*.device.example", "dns:a_b.example"),
    ("ip:192.0.2.1", "ip:2001:db8::1", "dns:device.example", "email:ops@device.example"),
]
NOT_POSSIBLE: list[x509.GeneralName] = [
    x509.UniformResourceIdentifier("urn:device:1"),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    x509.DirectoryName(name("device")),
    x509.DNSName("192.0.2.1"),
    x509.DNSName("a@device.example"),
    x509.RFC822Name("not an address"),
]


@pytest.mark.parametrize("wanted", SUBJECTS)
async def test_a_subject_comes_back_as_it_was_foretold(cfssl: Cfssl, tmp_path: Path, wanted: str) -> None:
    async with Opened(tmp_path).open(cfssl.settings) as backend:
        approved = await approved_for(backend, SUBJECTS[wanted])
        issued = await backend.issue(approved)
    assert isinstance(issued, Issued)
    assert issued.certificate.subject == approved.template.subject
    check_as_approved(issued.certificate, approved, backend.may_set)


async def test_what_is_not_kept_was_declared_by_the_operator(cfssl: Cfssl, tmp_path: Path) -> None:
    async with Opened(tmp_path).open(cfssl.settings | {"keeps_subject": ["commonName"]}) as backend:
        wanted = subject((CN, "device"), (O, "Example"))
        with pytest.raises(CsrRefused, match="copies the CSR's O"):
            await backend.issue(await approved_for(backend, wanted))
        approved = await approved_for(backend, wanted, csr_subject=name("device"))
        issued = await backend.issue(approved)
    assert isinstance(issued, Issued)
    assert issued.certificate.subject == name("device")


@pytest.mark.parametrize("san", SANS)
async def test_names_come_back_as_they_were_approved(cfssl: Cfssl, tmp_path: Path, san: tuple[str, ...]) -> None:
    async with Opened(tmp_path).open(cfssl.settings) as backend:
        approved = await approved_for(backend, san=san)
        issued = await backend.issue(approved)
    assert isinstance(issued, Issued)
    check_as_approved(issued.certificate, approved, backend.may_set)


@pytest.mark.parametrize("entry", NOT_POSSIBLE, ids=str)
async def test_a_name_that_would_come_back_as_another_is_not_asked_for(
    cfssl: Cfssl, tmp_path: Path, entry: x509.GeneralName
) -> None:
    async with Opened(tmp_path).open(cfssl.settings) as backend:
        with pytest.raises(CsrRefused, match="SubjectAltName"):
            await backend.issue(await approved_for(backend, entries=(entry,)))
    assert cfssl.rows() == []


async def test_a_subject_that_the_csr_would_come_back_into_is_not_asked_for(cfssl: Cfssl, tmp_path: Path) -> None:
    """CFSSL fills what is not in the request from the CSR."""
    async with Opened(tmp_path).open(cfssl.settings) as backend:
        csr_subject = name("device", O="Somebody Else")
        with pytest.raises(CsrRefused, match="copies the CSR's O"):
            await backend.issue(await approved_for(backend, name("device"), csr_subject=csr_subject))
    assert cfssl.rows() == []


async def test_further_extensions_are_not_asked_for(cfssl: Cfssl, tmp_path: Path) -> None:
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    further = x509.Extension(oid, critical=False, value=x509.UnrecognizedExtension(oid, b"\x05\x00"))
    async with Opened(tmp_path).open(cfssl.settings) as backend:
        with pytest.raises(NotAllowed, match=r"1\.3\.6\.1\.4\.1\.99999\.1"):
            await backend.issue(await approved_for(backend, extensions=(further,)))
    assert cfssl.rows() == []
