"""CA backend ``local``: what it issues."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID
from pkilint import loader, report  # type: ignore[import-untyped]  # ships no types
from pkilint.pkix import certificate as pkix_certificate  # type: ignore[import-untyped]  # ships no types
from pkilint.pkix import extension as extension_types
from pkilint.pkix import name
from pkilint.validation import ValidationFindingSeverity  # type: ignore[import-untyped]  # ships no types

from kipuka_builtin.local_ca import PROVIDER
from kipuka_core import Approved, Services, Signer
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.ca_backend import CaBackendContract, check_as_approved
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template
from kipuka_core.testing.services import make_services
from tests.plugins.local_ca_kit import CA_EXTENSIONS, ISSUING, NOW, OTHER_ROOT, ROOT, URLS, make_ca, opened, write_ca


class TestLocalCaKeepsTheContract(CaBackendContract):
    provider = PROVIDER

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Mapping[str, Any]:
        return write_ca(tmp_path, ISSUING)


class TestLocalCaInAWorkerThreadKeepsTheContract(CaBackendContract):
    provider = PROVIDER

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Mapping[str, Any]:
        return write_ca(tmp_path, ISSUING) | URLS

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        return make_services(tmp_path, open_signer=blocking_signer)


async def blocking_signer(key_uri: str) -> Signer:
    return Signer(ISSUING.key, hsm_backed=True, blocking=True)


def approve(authority: pki.Authority, key_type: str = "ecdsa256", san: Sequence[str] = (), **fields: Any) -> Approved:
    csr = sample_csr(pki.make_csr(pki.make_key(key_type), "device", san))
    values = {"not_before": NOW, "not_after": NOW + timedelta(days=30)} | fields
    return Approved(
        template=sample_template(csr, **values), enrolment=sample_enrolment(csr), issuer=authority.certificate
    )


def extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> x509.Extension[Any]:
    return certificate.extensions.get_extension_for_oid(oid)


async def test_the_profile_is_that_of_rfc_5280(tmp_path: Path) -> None:
    approved = approve(ISSUING, san=["dns:device.example"])
    async with opened(tmp_path, write_ca(tmp_path, ISSUING) | URLS) as backend:
        certificate = (await backend.issue(approved)).certificate
    assert [(each.oid, each.critical) for each in certificate.extensions] == [
        (ExtensionOID.BASIC_CONSTRAINTS, True),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.EXTENDED_KEY_USAGE, False),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
        (ExtensionOID.AUTHORITY_INFORMATION_ACCESS, False),
    ]
    assert certificate.version is x509.Version.v3
    assert certificate.not_valid_before_utc == approved.template.not_before
    assert certificate.not_valid_after_utc == approved.template.not_after
    ski = extension(ISSUING.certificate, ExtensionOID.SUBJECT_KEY_IDENTIFIER).value.digest
    assert extension(certificate, ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value.key_identifier == ski
    public_key = approved.enrolment.csr.public_key
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    expected = x509.SubjectKeyIdentifier.from_public_key(public_key)
    assert extension(certificate, ExtensionOID.SUBJECT_KEY_IDENTIFIER).value == expected
    assert extension(certificate, ExtensionOID.EXTENDED_KEY_USAGE).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    (point,) = extension(certificate, ExtensionOID.CRL_DISTRIBUTION_POINTS).value
    assert point.full_name == [x509.UniformResourceIdentifier("http://ca.example/issuing.crl")]
    access = extension(certificate, ExtensionOID.AUTHORITY_INFORMATION_ACCESS).value
    assert {(each.access_method, each.access_location.value) for each in access} == {
        (AuthorityInformationAccessOID.OCSP, "http://ocsp.example/"),
        (AuthorityInformationAccessOID.CA_ISSUERS, "http://ca.example/issuing.cer"),
    }


async def test_an_authority_key_identifier_is_the_ca_s_own_even_where_that_is_no_hash(tmp_path: Path) -> None:
    extensions = [(x509.SubjectKeyIdentifier(b"made up by hand"), False), *CA_EXTENSIONS]
    odd = make_ca("Odd CA", extensions)
    async with opened(tmp_path, write_ca(tmp_path, odd)) as backend:
        certificate = (await backend.issue(approve(odd))).certificate
    assert extension(certificate, ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value.key_identifier == b"made up by hand"


async def test_a_ca_without_key_identifier_gets_a_computed_one(tmp_path: Path) -> None:
    odd = make_ca("Odd CA", CA_EXTENSIONS)
    async with opened(tmp_path, write_ca(tmp_path, odd)) as backend:
        certificate = (await backend.issue(approve(odd))).certificate
    computed = x509.SubjectKeyIdentifier.from_public_key(odd.key.public_key()).digest
    assert extension(certificate, ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value.key_identifier == computed


@pytest.mark.parametrize(
    ("key_type", "hash_name"),
    [
        ("rsa2048", "sha256"),
        ("rsa3072", "sha256"),
        ("ecdsa256", "sha256"),
        ("ecdsa384", "sha384"),
        ("ecdsa521", "sha512"),
        ("ed25519", None),
        ("ed448", None),
        ("ml-dsa-44", None),
        ("ml-dsa-65", None),
        ("ml-dsa-87", None),
    ],
)
async def test_every_kind_of_ca_key_signs_with_the_hash_that_belongs_to_it(
    tmp_path: Path, key_type: str, hash_name: str | None
) -> None:
    authority = pki.make_root(key_type=key_type)
    approved = approve(authority, san=["dns:device.example"])
    async with opened(tmp_path, write_ca(tmp_path, authority)) as backend:
        certificate = (await backend.issue(approved)).certificate
        await backend.ping()
        assert backend.hash_name == hash_name
    check_as_approved(certificate, approved, backend.may_set)
    used = certificate.signature_hash_algorithm
    assert (used.name if used else None) == hash_name


async def test_a_slow_key_signs_in_a_worker_thread_and_a_fast_one_does_not(tmp_path: Path) -> None:
    for key_type, expected in (("rsa3072", ["sign"]), ("rsa2048", []), ("ecdsa256", [])):
        authority = pki.make_root(key_type=key_type)
        functions: list[str] = []

        async def run_blocking(function: Callable[..., Any], *arguments: Any, functions: list[str] = functions) -> Any:
            functions.append(function.__name__)
            return function(*arguments)

        async with opened(tmp_path, write_ca(tmp_path, authority), run_blocking=run_blocking) as backend:
            functions.clear()
            await backend.issue(approve(authority))
        assert functions == expected


def lint(certificate: x509.Certificate) -> str:
    """What pkilint finds against RFC 5280 in a certificate, NOTICE and above."""
    validators = [
        pkix_certificate.create_issuer_validator_container([]),
        pkix_certificate.create_validity_validator_container(),
        pkix_certificate.create_subject_validator_container([]),
        pkix_certificate.create_extensions_validator_container([]),
        pkix_certificate.create_spki_validator_container([]),
    ]
    decoders = pkix_certificate.create_decoding_validators(
        name.ATTRIBUTE_TYPE_MAPPINGS, extension_types.EXTENSION_MAPPINGS
    )
    linter = pkix_certificate.create_pkix_certificate_validator_container(decoders, validators)
    results = linter.validate(loader.load_certificate(certificate.public_bytes(Encoding.DER), "issued").root)
    found: str = report.ReportGeneratorPlaintext(results, ValidationFindingSeverity.NOTICE).generate()
    return found.strip()


async def test_issued_certificates_pass_pkilint(tmp_path: Path) -> None:
    for ca_key_type in ("ecdsa256", "ecdsa384", "rsa2048", "ed25519"):
        authority = pki.make_root(key_type=ca_key_type).subordinate(key_type=ca_key_type)
        async with opened(tmp_path, write_ca(tmp_path, authority) | URLS) as backend:
            for key_type in ("ecdsa256", "ecdsa384", "rsa2048", "ed25519"):
                for subject in (pki.name("device", O="Example"), x509.Name([])):
                    approved = approve(authority, key_type, ["dns:device.example", "ip:192.0.2.1"], subject=subject)
                    assert lint((await backend.issue(approved)).certificate) == "", (ca_key_type, key_type)


def test_pkilint_would_find_a_bad_certificate() -> None:
    assert "certificate_skid_ca_missing" in lint(make_ca("Without Key Identifier", CA_EXTENSIONS).certificate)


async def test_validity_is_cut_at_validity_days_and_at_the_ca_s_own_end(tmp_path: Path) -> None:
    ten_years = NOW + timedelta(days=3650)
    for days, end in ((7, NOW + timedelta(days=7)), (9999, ISSUING.certificate.not_valid_after_utc)):
        async with opened(tmp_path, write_ca(tmp_path, ISSUING) | {"validity_days": days}) as backend:
            certificate = (await backend.issue(approve(ISSUING, not_after=ten_years))).certificate
        assert certificate.not_valid_after_utc == end


async def test_the_key_of_the_template_is_certified(tmp_path: Path) -> None:
    approved = approve(ISSUING)
    other = sample_csr(pki.make_csr(pki.make_key("ed25519")))
    approved = replace(approved, template=replace(approved.template, spki_der=other.spki_der))
    async with opened(tmp_path, write_ca(tmp_path, ISSUING)) as backend:
        certificate = (await backend.issue(approved)).certificate
    assert certificate.public_key() == other.public_key


async def test_the_chain_holds_the_issuers_and_earlier_generations(tmp_path: Path) -> None:
    (tmp_path / "old.pem").write_bytes(OTHER_ROOT.pem)
    for table in (
        write_ca(tmp_path, ISSUING) | {"previous": "old.pem"},
        write_ca(tmp_path, ISSUING) | {"previous": ["old.pem"], "chain": ["ca.pem", "chain.pem"]},
    ):
        async with opened(tmp_path, table) as backend:
            chain = await backend.chain()
        assert chain.certificates == (ISSUING.certificate, ROOT.certificate)
        assert chain.previous == (OTHER_ROOT.certificate,)


async def test_issuers_may_follow_in_the_certificate_file(tmp_path: Path) -> None:
    table = write_ca(tmp_path, ISSUING) | {"chain": []}
    (tmp_path / "ca.pem").write_bytes(ISSUING.pem + ROOT.pem)
    async with opened(tmp_path, table) as backend:
        assert (await backend.chain()).certificates == ISSUING.chain


async def test_a_root_alone_is_its_own_chain(tmp_path: Path) -> None:
    async with opened(tmp_path, write_ca(tmp_path, ROOT)) as backend:
        assert (await backend.chain()).certificates == (ROOT.certificate,)


# -- start-up refusals --------------------------------------------------------------------------------------------
