"""What is said of a server certificate: nothing of a good one, one line of each weakness."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.edges.tls.context import ServerTls, build_context
from kipuka_core.edges.tls.server_certificate import (
    CMC_RA,
    Surroundings,
    inspect_server_certificate,
    remarks_on_server_certificate,
)
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.testing.pki import Authority, Leaf, key_pem, make_csr, make_key, make_root, name
from tests.interop.programs import run
from tests.startup.starting import pem

NOW = datetime.now(UTC)
EKUS = (ExtendedKeyUsageOID.SERVER_AUTH, CMC_RA)
ROOT = make_root()
ISSUING = ROOT.subordinate()
KNOWN = Surroundings(known=(ROOT.certificate,))


def good_leaf(issuer: Authority = ROOT, **changes: Any) -> Any:
    return issuer.leaf("server", **({"san": ("dns:localhost",), "eku": EKUS} | changes)).certificate


def built(
    extensions: list[x509.ExtensionType],
    *,
    issuer: Authority | None = ROOT,
    key: Any = None,
) -> x509.Certificate:
    """A certificate with exactly these extensions; without ``issuer`` it is self-signed."""
    key = key or make_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("server"))
        .issuer_name(issuer.certificate.subject if issuer else name("server"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=100))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signer = issuer.key if issuer else key
    return builder.sign(signer, hashes.SHA256())


def extensions(*usages: str, ca: bool = False) -> list[x509.ExtensionType]:
    return [
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
        x509.ExtendedKeyUsage(EKUS),
        key_usage_extension(usages),
        x509.BasicConstraints(ca=ca, path_length=None),
    ]


def one_warning(leaf: x509.Certificate, *chain: x509.Certificate, around: Surroundings = KNOWN) -> str:
    (warning,) = inspect_server_certificate(leaf, chain, datetime.now(UTC), "tls.cert", around)
    assert "\n" not in warning
    return warning


def hints(leaf: x509.Certificate, *chain: x509.Certificate, around: Surroundings = KNOWN) -> list[str]:
    remarks = remarks_on_server_certificate(leaf, chain, NOW, "tls.cert", around)
    return [str(remark) for remark in remarks if not remark.is_warning]


def test_a_good_server_certificate_raises_no_warning() -> None:
    assert remarks_on_server_certificate(good_leaf(), (), NOW, "tls.cert", KNOWN) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eku": (CMC_RA,)}, ["serverAuth"]),
        ({"eku": (ExtendedKeyUsageOID.SERVER_AUTH,)}, ["1.3.6.1.5.5.7.3.28"]),
        ({"eku": ()}, ["serverAuth", "1.3.6.1.5.5.7.3.28"]),
        ({"san": ()}, ["subjectAltName"]),
        ({"ca": True}, ["CA:TRUE"]),
    ],
)
def test_each_weakness_of_a_server_certificate_is_a_warning(changes: Any, words: Any) -> None:
    warnings = inspect_server_certificate(good_leaf(**changes), (), NOW, "tls.cert", KNOWN)
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


@pytest.mark.parametrize(("days", "notice_days"), [(900, 30), (90, 30), (60, 20), (30, 10)])
def test_its_end_is_a_warning_thirty_days_before_or_in_the_last_third_of_a_short_life(
    days: int, notice_days: int
) -> None:
    leaf = good_leaf(days=days)
    begins = leaf.not_valid_after_utc - timedelta(days=notice_days)
    for moment, expected in ((begins - timedelta(minutes=1), 0), (begins + timedelta(minutes=1), 1)):
        warnings = inspect_server_certificate(leaf, (), moment, "tls.cert", KNOWN)
        assert len(warnings) == expected
        assert all("renew it now" in warning for warning in warnings)


def test_a_missing_usage_names_the_command_that_makes_a_right_one_for_the_same_names() -> None:
    leaf = good_leaf(eku=(), san=("dns:est.example.com", "ip:192.0.2.7"))
    for warning in inspect_server_certificate(leaf, (), NOW, "tls.cert", KNOWN):
        assert warning.endswith("`kipuka tls csr --host est.example.com --host 192.0.2.7`")
    nameless = inspect_server_certificate(good_leaf(san=()), (), NOW, "tls.cert", KNOWN)
    assert nameless[0].endswith("`kipuka tls csr --host NAME`")


@pytest.mark.parametrize(("shift_days", "words"), [(91, "expired on"), (-2, "is valid from")])
def test_a_server_certificate_that_is_not_valid_now_is_an_error(shift_days: int, words: Any) -> None:
    with pytest.raises(ConfigurationError, match=words):
        inspect_server_certificate(good_leaf(), (), NOW + timedelta(days=shift_days))


@pytest.mark.parametrize("days_left", [31, 30, 29, 1])
def test_the_warning_of_the_end_begins_thirty_days_before(days_left: int) -> None:
    leaf = good_leaf()
    at = leaf.not_valid_after_utc - timedelta(days=days_left) + timedelta(seconds=0 if days_left > 29 else 1)
    warnings = inspect_server_certificate(leaf, (), at, "tls.cert", KNOWN)
    assert bool(warnings) is (days_left < 30)


# -- key usage ---------------------------------------------------------------------------------------------------------
def test_a_key_usage_without_digital_signature_or_with_a_cas_is_a_warning() -> None:
    assert "digitalSignature" in one_warning(built(extensions("keyEncipherment")))
    assert "keyCertSign" in one_warning(built(extensions("digitalSignature", "keyCertSign")))


def test_key_encipherment_is_a_hint_for_rsa_and_nothing_else() -> None:
    rsa_leaf = built(extensions("digitalSignature"), key=make_key("rsa2048"))
    assert inspect_server_certificate(rsa_leaf, (), NOW, "tls.cert", KNOWN) == []
    assert ["keyEncipherment" in hint for hint in hints(rsa_leaf)] == [True]
    assert hints(built(extensions("digitalSignature", "keyEncipherment"), key=make_key("rsa2048"))) == []
    assert hints(built(extensions("digitalSignature"))) == []


def test_without_a_key_usage_every_usage_is_allowed() -> None:
    assert remarks_on_server_certificate(built(extensions()[:2]), (), NOW, "tls.cert", KNOWN) == []


# -- names -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("san", "host", "is_warned"),
    [
        ("dns:est.example.com", "est.example.com", False),
        ("dns:est.example.com", "EST.example.com", False),
        ("dns:*.example.com", "est.example.com", False),
        ("dns:*.example.com", "a.est.example.com", True),
        ("dns:*.example.com", "example.com", True),
        ("dns:other.example.com", "est.example.com", True),
        ("ip:192.0.2.7", "192.0.2.7", False),
        ("ip:192.0.2.8", "192.0.2.7", True),
        ("ip:2001:db8::7", "2001:db8:0::7", False),
        ("ip:192.0.2.8", "0.0.0.0", False),
        ("ip:192.0.2.8", "::", False),
        ("ip:192.0.2.8", "127.0.0.1", False),
        ("ip:192.0.2.8", "::1", False),
        ("ip:192.0.2.8", "localhost", False),
    ],
)
def test_a_concrete_listen_address_is_named(san: str, host: str, is_warned: bool) -> None:
    around = Surroundings(known=(ROOT.certificate,), hosts=(host,))
    warnings = inspect_server_certificate(good_leaf(san=(san,)), (), NOW, "tls.cert", around)
    assert len(warnings) == is_warned
    assert all(host in warning for warning in warnings)


def test_where_there_are_host_names_a_missing_address_is_a_hint() -> None:
    around = Surroundings(known=(ROOT.certificate,), hosts=("192.0.2.7",))
    leaf = good_leaf(san=("dns:est.example.com",))
    assert inspect_server_certificate(leaf, (), NOW, "tls.cert", around) == []
    assert ["192.0.2.7" in hint for hint in hints(leaf, around=around)] == [True]


# -- chain -------------------------------------------------------------------------------------------------------------
def test_a_chain_in_the_wrong_order_or_out_of_time_is_a_warning() -> None:
    root = make_root(days=3000)
    short = root.subordinate("Short CA", days=40)
    leaf = good_leaf(short)
    assert inspect_server_certificate(leaf, short.chain, NOW) == []
    assert "does not follow" in inspect_server_certificate(leaf, (root.certificate,), NOW)[0]
    assert "is not valid now" in inspect_server_certificate(leaf, short.chain, NOW + timedelta(days=45))[0]
    assert "Short CA ends on" in inspect_server_certificate(leaf, short.chain, NOW + timedelta(days=15))[0]


def test_a_chain_of_the_right_names_whose_signature_is_anothers_is_a_warning() -> None:
    impostor = ROOT.subordinate()
    assert impostor.certificate.subject == ISSUING.certificate.subject
    assert "which did not sign it" in one_warning(good_leaf(ISSUING), impostor.certificate)
    other_kind = ROOT.subordinate(key_type="rsa2048")
    assert "cannot have signed it" in one_warning(good_leaf(ISSUING), other_kind.certificate)


def test_a_certificate_in_the_chain_that_is_no_ca_is_a_warning() -> None:
    middle = ROOT.leaf("no CA")
    leaf = good_leaf(Authority(middle.certificate, middle.key, ROOT.chain))
    assert "CN=no CA is not a CA's certificate" in one_warning(leaf, middle.certificate)


def test_a_missing_intermediate_is_a_warning() -> None:
    leaf = good_leaf(ISSUING)
    own = Surroundings(known=(ISSUING.certificate, ROOT.certificate))
    assert "is not complete" in one_warning(leaf, around=own)
    assert "may not be complete" in one_warning(leaf, around=Surroundings())
    assert "may not be complete" in one_warning(leaf)  # only the root is known
    assert inspect_server_certificate(leaf, (ISSUING.certificate,), NOW) == []


def test_a_known_ca_of_the_issuers_name_and_another_key_is_not_the_issuer() -> None:
    around = Surroundings(known=(make_root().certificate,))
    assert "may not be complete" in one_warning(good_leaf(), around=around)


def test_a_root_at_the_end_is_said_to_be_needless_and_is_no_warning() -> None:
    assert inspect_server_certificate(good_leaf(), (ROOT.certificate,), NOW) == []
    assert hints(good_leaf(), ROOT.certificate) == [], "directly above it says who the issuer is"
    ca = ROOT.subordinate()
    found = hints(ca.server().certificate, ca.certificate, ROOT.certificate)
    assert [hint for hint in found if "can be left out" in hint]


def test_a_self_signed_certificate_is_for_development() -> None:
    assert "development" in one_warning(built(extensions("digitalSignature"), issuer=None), around=Surroundings())


# -- strength ----------------------------------------------------------------------------------------------------------
def signed_with_sha1(directory: Path, key: Any, issuer: Authority, extension_lines: str) -> x509.Certificate:
    """By OpenSSL: cryptography does not sign with SHA-1 any more."""
    (directory / "csr.der").write_bytes(make_csr(key, "server"))
    (directory / "sha1.cnf").write_text(extension_lines)
    (directory / "ca.pem").write_bytes(issuer.pem)
    (directory / "ca.key").write_bytes(key_pem(issuer.key))
    done = run(
        "openssl", "x509", "-req", "-inform", "DER", "-in", "csr.der", "-sha1", "-days", "90", "-extfile", "sha1.cnf",
        "-CA", "ca.pem", "-CAkey", "ca.key", cwd=directory,
    )  # fmt: skip
    return x509.load_pem_x509_certificate(done.stdout)


def weak_key(_directory: Path) -> tuple[list[x509.Certificate], Any]:
    key = make_key("rsa1024")
    return [built(extensions("digitalSignature", "keyEncipherment"), key=key)], key


def weak_signature(directory: Path) -> tuple[list[x509.Certificate], Any]:
    key = make_key()
    lines = "subjectAltName = DNS:localhost\nextendedKeyUsage = serverAuth, 1.3.6.1.5.5.7.3.28\n"
    return [signed_with_sha1(directory, key, ROOT, lines)], key


def weak_signature_above(directory: Path) -> tuple[list[x509.Certificate], Any]:
    key, ca_key = make_key(), make_key()
    above = signed_with_sha1(directory, ca_key, ROOT, "basicConstraints = critical, CA:TRUE\n")
    leaf = built(extensions("digitalSignature"), key=key, issuer=Authority(above, ca_key, ROOT.chain))
    return [leaf, above], key


@pytest.mark.parametrize(
    ("make", "says", "error_says"),
    [
        (weak_key, "RSA with 1024 bits", "the key is too weak"),
        (weak_signature, "SHA1", "SHA-1"),
        (weak_signature_above, "SHA1", "SHA-1"),
    ],
)
def test_what_openssl_refuses_is_said_in_words(
    make: Callable[[Path], Any], says: str, error_says: str, tmp_path: Path
) -> None:
    certificates, key = make(tmp_path)
    leaf, *chain = certificates
    assert says in one_warning(leaf, *chain)
    (tmp_path / "server.pem").write_bytes(pem(*certificates))
    (tmp_path / "server.key").write_bytes(key_pem(key))
    files = {"certificate_file": str(tmp_path / "server.pem"), "key_file": str(tmp_path / "server.key")}
    with pytest.raises(ConfigurationError, match=error_says):
        build_context(ServerTls(**files, client_auth="none"))  # type: ignore[arg-type]  # only names of files


def test_a_certificate_that_cannot_be_read_to_its_end_is_an_error() -> None:
    broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x02\x01")
    with pytest.raises(ConfigurationError, match="cannot be read to its end"):
        inspect_server_certificate(built([broken]), (), NOW, "tls.cert", KNOWN)


def test_the_test_kits_server_certificate_is_what_the_guide_wants() -> None:
    server: Leaf = ROOT.server()
    assert inspect_server_certificate(server.certificate, (), NOW, "tls.cert", KNOWN) == []
