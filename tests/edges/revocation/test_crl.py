"""One CRL: what is read, what is refused, whom it is for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kipuka_core.edges.revocation.asked import ask_about
from kipuka_core.edges.revocation.crl import CrlUnusable, parse_crls
from kipuka_core.testing.client import openssl
from kipuka_core.testing.pki import Authority, make_key, make_root
from tests.edges.revocation.revocation_kit import DAY, crl_der, crl_pem, points, uri

ROOT = make_root("CRL Root CA")
CA = ROOT.subordinate("CRL Device CA")
GOOD, BAD = CA.leaf("good"), CA.leaf("bad")
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
URL = "http://crl.example/ca.crl"


def idp(**more: Any) -> tuple[x509.ExtensionType, bool]:
    values: dict[str, Any] = {"full_name": None, "relative_name": None, "only_some_reasons": None}
    values |= dict.fromkeys(("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl"), False)
    values["only_contains_attribute_certs"] = False
    return x509.IssuingDistributionPoint(**{**values, **more}), True


def aki(authority: Authority) -> tuple[x509.ExtensionType, bool]:
    ski = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), False


@pytest.mark.parametrize("make", [crl_der, crl_pem])
def test_a_listed_certificate_is_revoked_and_another_is_not(make: Any) -> None:
    (crl,) = parse_crls(make(CA, BAD))
    assert crl.says(BAD.certificate)
    assert not crl.says(GOOD.certificate)
    assert crl.problem_with(CA.certificate) == ""
    assert crl.is_for(ask_about(BAD.certificate, CA.certificate))


def test_several_crls_in_one_pem_file_are_all_read() -> None:
    other = make_root("Other CA")
    crls = parse_crls(b"words before\n" + crl_pem(CA, BAD) + b"\nand between\n" + crl_pem(other))
    assert [crl.issuer for crl in crls] == [CA.certificate.subject, other.certificate.subject]


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        ((x509.DeltaCRLIndicator(1), True), "delta CRL"),
        ((STRANGE, True), "critical extension that is unknown here (1.2.3.4)"),
        (idp(indirect_crl=True), "indirect"),
        (idp(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})), "some reasons"),
        (idp(only_contains_attribute_certs=True), "attribute"),
        (
            idp(relative_name=x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])),
            "relative name",
        ),
    ],
)
def test_what_cannot_be_understood_in_full_is_refused(extension: Any, words: str) -> None:
    with pytest.raises(CrlUnusable) as refused:
        parse_crls(crl_der(CA, extensions=[extension]))
    assert words in str(refused.value)


def test_an_extension_that_is_unknown_and_not_critical_is_none_of_our_business() -> None:
    (crl,) = parse_crls(crl_der(CA, BAD, extensions=[(STRANGE, False), (x509.CRLNumber(7), False)]))
    assert crl.says(BAD.certificate)


def test_an_entry_with_an_unknown_critical_extension_refuses_the_whole_list() -> None:
    issuer = x509.CertificateIssuer([x509.DirectoryName(ROOT.certificate.subject)])
    for extension in (issuer, STRANGE):
        with pytest.raises(CrlUnusable, match="entry with a critical extension"):
            parse_crls(crl_der(CA, BAD, entry_extensions=[(extension, True)]))
    (crl,) = parse_crls(crl_der(CA, BAD, entry_extensions=[(STRANGE, False)]))
    assert crl.says(BAD.certificate)


@pytest.mark.parametrize(
    ("reason", "is_revoked"),
    [
        (x509.ReasonFlags.key_compromise, True),
        (x509.ReasonFlags.certificate_hold, True),
        (x509.ReasonFlags.remove_from_crl, False),
    ],
)
def test_a_certificate_on_hold_does_not_count_and_one_taken_off_does(
    reason: x509.ReasonFlags, is_revoked: bool
) -> None:
    (crl,) = parse_crls(crl_der(CA, BAD, entry_extensions=[(x509.CRLReason(reason), False)]))
    assert crl.says(BAD.certificate) is is_revoked


def test_the_signature_has_to_be_that_of_the_issuers_key() -> None:
    (crl,) = parse_crls(crl_der(CA, key=make_key()))
    assert "not signed by the key of CN=CRL Device CA" in crl.problem_with(CA.certificate)
    assert crl.known_problem_with(CA.certificate) == crl.problem_with(CA.certificate)
    assert crl.known_problem_with(ROOT.certificate) is None


@pytest.mark.parametrize("key_type", ["rsa2048", "ecdsa384", "ecdsa521", "ed25519", "ed448", "ml-dsa-44"])
def test_keys_of_every_kind_sign(key_type: str) -> None:
    authority = make_root("Signing CA", key_type)
    (crl,) = parse_crls(crl_der(authority))
    assert crl.problem_with(authority.certificate) == ""
    (forged,) = parse_crls(crl_der(authority, key=make_key(key_type)))
    assert forged.problem_with(authority.certificate)


def test_an_issuer_whose_key_usage_excludes_crls_does_not_count() -> None:
    leaf = CA.leaf("no CRL signer")  # digitalSignature only
    (crl,) = parse_crls(crl_der(CA, issuer=leaf.certificate.subject, key=leaf.key))
    assert "keyUsage" in crl.problem_with(leaf.certificate)


def test_a_weak_hash_is_refused(tmp_path: Any) -> None:
    root = make_root("Weak CA", "rsa2048")
    (tmp_path / "ca.pem").write_bytes(root.pem)
    key = tmp_path / "ca.key"
    key.write_bytes(root.leaf(key=root.key).key_pem)
    (tmp_path / "index").touch()
    (tmp_path / "cnf").write_text(f"[ca]\ndefault_ca=a\n[a]\ndatabase={tmp_path}/index\n", encoding="utf-8")
    signer = ("-cert", str(tmp_path / "ca.pem"), "-keyfile", str(key))
    common = (
        "ca",
        "-gencrl",
        "-config",
        str(tmp_path / "cnf"),
        *signer,
        "-crldays",
        "1",
        "-out",
        f"{tmp_path}/crl.pem",
    )
    openssl(*common, "-md", "sha256")
    (crl,) = parse_crls((tmp_path / "crl.pem").read_bytes())
    assert crl.problem_with(root.certificate) == ""
    openssl(*common, "-md", "sha1")
    with pytest.raises(CrlUnusable, match="sha1"):
        parse_crls((tmp_path / "crl.pem").read_bytes())


def test_a_crl_of_another_key_or_name_is_not_for_the_certificate() -> None:
    renewed = make_root("Test CA")
    former = make_root("Test CA")
    asked = ask_about(renewed.leaf().certificate, renewed.certificate)
    assert parse_crls(crl_der(renewed, extensions=[aki(renewed)]))[0].is_for(asked)
    assert not parse_crls(crl_der(former, extensions=[aki(former)]))[0].is_for(asked)
    assert not parse_crls(crl_der(CA))[0].is_for(asked)


def test_a_crl_for_users_or_cas_only_is_for_those_only() -> None:
    user, ca = ask_about(GOOD.certificate, CA.certificate), ask_about(CA.certificate, ROOT.certificate)
    (users,) = parse_crls(crl_der(CA, extensions=[idp(only_contains_user_certs=True)]))
    (cas,) = parse_crls(crl_der(CA, extensions=[idp(only_contains_ca_certs=True)]))
    assert (users.is_for(user), cas.is_for(user)) == (True, False)
    (users,) = parse_crls(crl_der(ROOT, extensions=[idp(only_contains_user_certs=True)]))
    (cas,) = parse_crls(crl_der(ROOT, extensions=[idp(only_contains_ca_certs=True)]))
    assert (users.is_for(ca), cas.is_for(ca)) == (False, True)


def test_a_crl_of_a_distribution_point_is_for_certificates_that_name_it() -> None:
    (crl,) = parse_crls(crl_der(CA, extensions=[idp(full_name=[uri(URL)])]))
    names_it = CA.leaf(more_extensions=[points("http://crl.example/other.crl", URL)])
    names_another = CA.leaf(more_extensions=[points("http://crl.example/other.crl")])
    partial = x509.DistributionPoint([uri(URL)], None, frozenset({x509.ReasonFlags.key_compromise}), None)
    names_part = CA.leaf(more_extensions=[(x509.CRLDistributionPoints([partial]), False)])
    found = [crl.is_for(ask_about(leaf.certificate, CA.certificate)) for leaf in (names_it, names_another, names_part)]
    assert found == [True, False, False]
    (crl,) = parse_crls(crl_der(CA, extensions=[idp(full_name=[x509.DirectoryName(CA.certificate.subject)])]))
    assert crl.is_for(ask_about(GOOD.certificate, CA.certificate))


def test_a_crl_counts_only_in_its_time() -> None:
    now = datetime.now(UTC)
    (crl,) = parse_crls(crl_der(CA, this_update=now, next_update=now + DAY))
    assert crl.problem_at(now) == ""
    assert crl.problem_at(now - timedelta(minutes=4)) == ""  # a clock may be a little behind
    assert "of the future" in crl.problem_at(now - timedelta(minutes=6))
    assert "has ended" in crl.problem_at(now + DAY + timedelta(seconds=1))


def test_the_look_up_does_not_depend_on_the_number_of_entries() -> None:
    serials = [10_000_000 + 7 * each for each in range(100_000)]
    (long,), (short,) = parse_crls(crl_der(CA, *serials, BAD)), parse_crls(crl_der(CA, BAD))
    assert len(long.revoked_serials) == 100_001
    # What answers is a hash set, and nothing of the signed list is read any more.
    assert isinstance(long.revoked_serials, frozenset)
    for crl in (long, short):
        comparisons = _comparisons(crl.revoked_serials, 10_000_001)
        assert comparisons <= 1
        assert crl.says(BAD.certificate)
        assert not crl.says(GOOD.certificate)
    assert long.says(CA.leaf().certificate) is False


def _comparisons(serials: frozenset[int], serial: int) -> int:
    """How many entries are compared with a serial number during one look-up."""
    count = 0

    class Counting(int):
        def __eq__(self, other: object) -> bool:
            nonlocal count
            count += 1
            return int(self) == other

        __hash__ = int.__hash__

    assert Counting(serial) not in serials
    return count


DER = crl_der(CA, BAD, extensions=[aki(CA), idp(only_contains_user_certs=True)])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(lambda head, tail: DER[:head] + tail, st.integers(0, len(DER)), st.binary(max_size=20)),
        st.builds(
            lambda at, value: DER[:at] + bytes([value]) + DER[at + 1 :],
            st.integers(0, len(DER) - 1),
            st.integers(0, 255),
        ),
        st.binary(max_size=100).map(lambda data: b"-----BEGIN X509 CRL-----" + data + b"-----END X509 CRL-----"),
    )
)
def test_malformed_bytes_are_refused_or_do_not_verify(data: bytes) -> None:
    try:
        crls = parse_crls(data)
    except CrlUnusable:
        return
    for crl in crls:
        if crl.signed.public_bytes(Encoding.DER) != DER:
            assert crl.problem_with(CA.certificate)
        crl.is_for(ask_about(BAD.certificate, CA.certificate))


@pytest.mark.parametrize("cut", [20, 200])
def test_a_pem_file_that_was_cut_off_is_refused(cut: int) -> None:
    first, second = crl_pem(CA, BAD), crl_pem(ROOT)
    for data in (first + second[:-cut], first[:-cut] + second):
        with pytest.raises(CrlUnusable):
            parse_crls(data)


def test_whether_a_ca_may_sign_is_asked_of_each_of_its_certificates() -> None:
    (crl,) = parse_crls(crl_der(CA))
    assert crl.problem_with(CA.certificate) == ""
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    may_not = (
        x509.CertificateBuilder()
        .subject_name(CA.certificate.subject)
        .issuer_name(ROOT.certificate.subject)
        .public_key(CA.certificate.public_key())
        .serial_number(5)
        .not_valid_before(CA.certificate.not_valid_before_utc)
        .not_valid_after(CA.certificate.not_valid_after_utc)
        .add_extension(usage, critical=True)
        .sign(ROOT.key, hashes.SHA256())
    )
    assert crl.known_problem_with(may_not) is None
    assert "keyUsage" in crl.problem_with(may_not)
    assert crl.known_problem_with(CA.certificate) == ""


def test_a_crl_for_one_kind_is_not_for_a_certificate_whose_kind_cannot_be_read() -> None:
    broken = CA.leaf(
        more_extensions=[(x509.UnrecognizedExtension(ExtensionOID.CRL_DISTRIBUTION_POINTS, b"\x05\x00"), False)]
    )
    asked = ask_about(broken.certificate, CA.certificate)
    assert asked.is_ca is None
    for scope in (idp(only_contains_user_certs=True), idp(only_contains_ca_certs=True)):
        (crl,) = parse_crls(crl_der(CA, extensions=[scope]))
        assert not crl.is_for(asked)
    (crl,) = parse_crls(crl_der(CA))
    assert crl.is_for(asked)
