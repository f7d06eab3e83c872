"""The plugin alone: kipuka's contract suite, and which evidence it believes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kipuka_key_attestation as plugin
import pytest
from attesting_device import attestation, attested_csr, evidence, make_element_key
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes

from kipuka_core import Allow, ConfigurationError, Deny, DenyKind, Policy, Verdict
from kipuka_core.testing.client import openssl
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.pki import Authority, key_pem, make_csr, make_root
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_label, sample_template
from kipuka_core.testing.services import make_services

VENDOR = make_root("Vendor Attestation Root")
ELEMENT = VENDOR.subordinate("Secure Element 4711")
NOW = datetime.now(UTC)
UNREADABLE = "the attestation evidence of the CSR cannot be read"
NOT_TRUSTED = "the attestation evidence is not valid now, or its vendor is not trusted here"


def opened(directory: Path, anchors: bytes = VENDOR.pem, *, required: bool = True, **services: Any) -> Policy:
    (directory / "anchors.pem").write_bytes(anchors)
    settings = plugin.AttestationSettings(anchors=("anchors.pem",), required=required)
    return plugin.KeyAttestation(settings, make_services(directory, **services))


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return opened(tmp_path)


def judged(policy: Policy, csr_der: bytes, *, at: datetime = NOW) -> Verdict:
    csr = sample_csr(csr_der, extensions=())
    return asyncio.run(policy.decide(sample_template(csr), replace(sample_enrolment(csr), time=at)))


def refused(policy: Policy, csr_der: bytes, *, at: datetime = NOW) -> str:
    verdict = judged(policy, csr_der, at=at)
    assert isinstance(verdict, Deny), verdict
    assert verdict.kind is DenyKind.CSR
    return verdict.reason


def attested(element: Authority = ELEMENT, **certificate: Any) -> bytes:
    key = make_element_key()
    return attested_csr(key, attestation(element, key, **certificate))


class TestRequired(PolicyContract):
    (provider,) = plugin.kipuka_policies()

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Mapping[str, Any]:
        (tmp_path / "anchors.pem").write_bytes(VENDOR.pem)
        return {"anchors": ["anchors.pem"]}


class TestNotRequired(TestRequired):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Mapping[str, Any]:
        (tmp_path / "anchors.pem").write_bytes(VENDOR.pem)
        return {"anchors": ["anchors.pem"], "required": False}


def test_an_attested_key_may_have_a_certificate(policy: Policy) -> None:
    assert judged(policy, attested()) == Allow()


@pytest.mark.parametrize("anchor", [VENDOR, ELEMENT], ids=["the root", "the element's own"])
def test_an_anchor_may_stand_at_any_place_of_the_chain(anchor: Authority, tmp_path: Path) -> None:
    key = make_element_key()
    leaf = ELEMENT.leaf(key=key).certificate
    chain = (leaf,) if anchor is ELEMENT else (leaf, ELEMENT.certificate)

    policy = opened(tmp_path, make_root("Another Vendor").pem + anchor.pem)

    assert judged(policy, attested_csr(key, evidence(chain))) == Allow()


def test_statements_of_other_types_are_passed_over(policy: Policy) -> None:
    key = make_element_key()
    chain = ELEMENT.leaf(key=key).certificate, ELEMENT.certificate

    both = attested_csr(key, evidence(chain, types=("2.23.133.20.1", plugin.CERTIFICATE)))

    assert judged(policy, both) == Allow()


def test_a_csr_without_evidence_is_refused_and_told_what_to_add(policy: Policy) -> None:
    assert "1.2.840.113549.1.9.16.2.59" in refused(policy, make_csr())


def test_where_it_is_not_required_wrong_evidence_is_refused_all_the_same(tmp_path: Path) -> None:
    policy = opened(tmp_path, required=False)

    assert judged(policy, make_csr()) == Allow()
    assert refused(policy, attested(make_root("Another Vendor").subordinate())) == NOT_TRUSTED
    assert refused(policy, attested_csr(make_element_key())) == UNREADABLE


def test_evidence_of_another_key_is_refused(policy: Policy) -> None:
    stolen = attestation(ELEMENT, make_element_key())

    assert refused(policy, attested_csr(make_element_key(), stolen)).endswith("about another key")


def test_another_vendor_of_the_same_name_is_refused(policy: Policy) -> None:
    assert refused(policy, attested(make_root("Vendor Attestation Root").subordinate("Element"))) == NOT_TRUSTED


def test_a_device_cannot_attest_its_own_key(policy: Policy) -> None:
    """What an element signs with a key of its slots is no CA's word, whoever has attested that key."""
    slot = ELEMENT.leaf("Attestation of slot 9a")
    assert refused(policy, attested(Authority(slot.certificate, slot.key, slot.chain))) == NOT_TRUSTED
    without_key_cert_sign = VENDOR.leaf("No CA", ca=True)  # its key usage is digitalSignature
    assert refused(
        policy, attested(Authority(without_key_cert_sign.certificate, without_key_cert_sign.key, VENDOR.chain))
    ) == (NOT_TRUSTED)


def test_a_ca_has_no_more_cas_below_it_than_it_may(policy: Policy) -> None:
    assert refused(policy, attested(ELEMENT.subordinate("Below"))) == NOT_TRUSTED  # its pathLenConstraint is 0


def test_a_chain_that_does_not_hang_together_is_refused(policy: Policy) -> None:
    key, other = make_element_key(), VENDOR.subordinate("Secure Element 4711")
    leaf = ELEMENT.leaf(key=key).certificate

    for above in ((), (other.certificate,), (VENDOR.certificate, ELEMENT.certificate)):
        assert refused(policy, attested_csr(key, evidence((leaf, *above)))) == NOT_TRUSTED


def test_what_follows_four_issuers_is_not_even_read(policy: Policy) -> None:
    key = make_element_key()
    bundle = asn1.decode_der(plugin.Bundle, evidence((ELEMENT.leaf(key=key).certificate, *[ELEMENT.certificate] * 4)))
    nonsense = asn1.decode_der(asn1.TLV, b"\x05\x00")

    assert bundle.certs is not None
    bundle.certs.append(nonsense)
    assert refused(policy, attested_csr(key, asn1.encode_der(bundle))) == NOT_TRUSTED
    bundle.certs.insert(3, nonsense)
    assert refused(policy, attested_csr(key, asn1.encode_der(bundle))) == UNREADABLE


def test_every_certificate_has_to_be_valid_at_the_time_of_the_request(tmp_path: Path) -> None:
    policy = opened(tmp_path, make_root("Vendor", days=400).pem + VENDOR.pem)
    short, shorter = VENDOR.subordinate("Short", days=100), attested(days=10)

    assert judged(policy, shorter) == judged(policy, attested(short, days=1000)) == Allow()
    assert refused(policy, attested(not_before=NOW + timedelta(hours=1))) == NOT_TRUSTED
    assert refused(policy, shorter, at=NOW + timedelta(days=11)) == NOT_TRUSTED
    assert refused(policy, attested(short, days=1000), at=NOW + timedelta(days=101)) == NOT_TRUSTED
    assert refused(policy, attested(VENDOR, days=9000), at=NOW + timedelta(days=2001)) == NOT_TRUSTED


def test_a_hash_that_is_broken_counts_for_nothing(policy: Policy, tmp_path: Path) -> None:
    key, element = make_element_key(), tmp_path / "element.pem"
    element.write_bytes(ELEMENT.pem + key_pem(ELEMENT.key))
    (tmp_path / "csr.pem").write_text(openssl("req", "-inform", "DER", stdin=make_csr(key)))
    sign = ("x509", "-req", "-in", str(tmp_path / "csr.pem"), "-CA", str(element), "-CAkey", str(element))

    for algorithm, expected in (("-sha256", Allow), ("-sha1", Deny)):
        leaf = x509.load_pem_x509_certificate(openssl(*sign, "-set_serial", "1", algorithm).encode())
        csr_der = attested_csr(key, evidence((leaf, ELEMENT.certificate)))
        assert isinstance(judged(policy, csr_der, at=NOW + timedelta(days=1)), expected)


def test_a_key_usage_alone_makes_no_ca(policy: Policy) -> None:
    key, now = make_element_key(), ELEMENT.certificate
    usage = now.extensions.get_extension_for_class(x509.KeyUsage).value
    leaf = ELEMENT.leaf(key=key).certificate

    for is_ca, expected in ((True, Allow), (False, Deny)):
        builder = x509.CertificateBuilder(now.issuer, now.subject, now.public_key(), 1)
        builder = builder.not_valid_before(now.not_valid_before_utc).not_valid_after(now.not_valid_after_utc)
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        element = builder.add_extension(usage, critical=True).sign(VENDOR.key, hashes.SHA256())
        assert isinstance(judged(policy, attested_csr(key, evidence((leaf, element)))), expected)


def test_what_is_critical_and_not_known_is_refused(policy: Policy) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")

    assert judged(policy, attested(more_extensions=[(unknown, False)])) == Allow()
    assert refused(policy, attested(more_extensions=[(unknown, True)])) == NOT_TRUSTED


@pytest.mark.parametrize(
    "values",
    [(), (b"\x05\x00",), (b"\x30\x00",), (b"\x0c\x02hi",), (b"\x30\x02\x30\x00",), (b"\x30\x00", b"\x05\x00")],
    ids=["no value", "null", "empty", "text", "no statement", "two values"],
)
def test_a_value_that_is_no_bundle_is_refused(policy: Policy, values: tuple[bytes, ...]) -> None:
    assert refused(policy, attested_csr(make_element_key(), *values)) == UNREADABLE


@pytest.mark.parametrize("types", [("2.23.133.20.1",), (plugin.CERTIFICATE,) * 2], ids=["none of ours", "two of ours"])
def test_it_takes_one_statement_of_its_type(policy: Policy, types: tuple[str, ...]) -> None:
    key = make_element_key()
    chain = ELEMENT.leaf(key=key).certificate, ELEMENT.certificate

    assert refused(policy, attested_csr(key, evidence(chain, types=types))) == UNREADABLE


def test_no_damage_to_the_evidence_is_believed(policy: Policy) -> None:
    """Every octet after its head, changed in one bit; some encodings of a signature have a bit that means nothing."""
    key = make_element_key()
    good = attestation(ELEMENT, key)
    signed = [each.tbs_certificate_bytes for each in plugin._evidence(attested_csr(key, good))]
    believed = 0

    for at in range(4, len(good)):
        csr_der = attested_csr(key, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        if judged(policy, csr_der) == Allow():
            believed += 1
            assert [each.tbs_certificate_bytes for each in plugin._evidence(csr_der)] == signed
    assert believed <= 2


@pytest.mark.parametrize("which", ["client_anchors", "own_issuers"])
def test_a_ca_of_devices_is_no_anchor(which: str, tmp_path: Path) -> None:
    certificates = (make_root().certificate, VENDOR.certificate)
    lent: Any = certificates if which == "client_anchors" else lambda: certificates

    with pytest.raises(ConfigurationError, match=r"anchors: CN=Vendor Attestation Root certifies devices"):
        opened(tmp_path, **{which: lent})


def test_a_certificate_that_is_no_ca_is_no_anchor(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.key-attestation\.anchors: CN=device is not a CA"):
        opened(tmp_path, ELEMENT.leaf().certificate_pem)


def test_devices_are_told(policy: Policy) -> None:
    assert asyncio.run(policy.advertise(sample_label())).oids == (plugin.EVIDENCE,)
