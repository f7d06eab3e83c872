"""Issued certificates follow RFC 5280, and a CSR's wishes are granted or refused, never dropped (rows 20 and 21)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.testing.client import openssl
from kipuka_core.testing.pki import make_csr, make_key
from tests.system.system_kit import System, san_texts

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)
CMC_RA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
_numbers = count()


def extension(certificate: x509.Certificate, kind: type[ExtensionT]) -> tuple[ExtensionT, bool]:
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def issue(
    system: System, key_type: str = "ecdsa256", *, label: str = "", wanted: tuple[x509.ExtensionType, ...] = ()
) -> x509.Certificate:
    entity = f"profile-{next(_numbers)}"
    csr = make_csr(make_key(key_type), entity, [f"dns:{entity}"], extensions=[(each, False) for each in wanted])
    return system.client().enrol(csr, user=entity, password=system.otp(entity), label=label).certificate()


def key_usage(*set_bits: str) -> x509.KeyUsage:
    bits = [
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ]
    return x509.KeyUsage(**{bit: bit in set_bits for bit in bits})


@pytest.mark.parametrize(
    ("key_type", "with_encipherment"), [("ecdsa256", False), ("ecdsa384", False), ("rsa2048", True)]
)
def test_a_certificate_has_the_profile_of_rfc_5280(system: System, key_type: str, with_encipherment: bool) -> None:
    certificate, now = issue(system, key_type), datetime.now(UTC)
    (name,) = san_texts(certificate)
    assert certificate.version is x509.Version.v3
    assert certificate.issuer == system.issuing_ca.subject
    assert certificate.serial_number.bit_length() > 64
    assert len(certificate.serial_number.to_bytes(21, "big", signed=True).lstrip(b"\0")) <= 20
    assert extension(certificate, x509.BasicConstraints) == (x509.BasicConstraints(ca=False, path_length=None), True)
    ski = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    assert extension(certificate, x509.SubjectKeyIdentifier) == (ski, False)
    ca_ski = extension(system.issuing_ca, x509.SubjectKeyIdentifier)[0]
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_ski)
    assert extension(certificate, x509.AuthorityKeyIdentifier) == (aki, False)
    usages = ("digital_signature", "key_encipherment") if with_encipherment else ("digital_signature",)
    assert extension(certificate, x509.KeyUsage) == (key_usage(*usages), True)
    eku = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    assert extension(certificate, x509.ExtendedKeyUsage) == (eku, False)
    assert f"CN={name}" == certificate.subject.rfc4514_string()
    assert timedelta(minutes=4) < now - certificate.not_valid_before_utc < timedelta(minutes=30)
    assert timedelta(days=364) < certificate.not_valid_after_utc - now <= timedelta(days=365)


def test_two_certificates_for_the_same_key_have_different_serials(system: System) -> None:
    key, token = make_key(), system.otp("twice", max_usage=2)
    first = system.client().enrol(make_csr(key, "twice"), user="twice", password=token).certificate()
    csr = make_csr(key, "twice", ["dns:twice"])
    second = system.client().enrol(csr, user="twice", password=token).certificate()
    assert first.serial_number != second.serial_number


def test_openssl_verifies_the_certificate_for_a_client(system: System) -> None:
    file = system.deployment.directory / "verified.pem"
    file.write_bytes(issue(system).public_bytes(Encoding.PEM))
    root = system.deployment.root_pem
    chain = ("-CAfile", str(root), "-untrusted", str(root.with_name("issuing.pem")))
    assert openssl("verify", "-x509_strict", "-purpose", "sslclient", *chain, str(file)).endswith(": OK\n")
    with pytest.raises(AssertionError, match="purpose"):
        openssl("verify", "-purpose", "sslserver", *chain, str(file))


def test_less_than_the_label_gives_can_be_asked_for(system: System) -> None:
    client_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = issue(system, "rsa2048", label="bits", wanted=(client_auth, key_usage("digital_signature")))
    assert extension(certificate, x509.ExtendedKeyUsage)[0] == client_auth
    assert extension(certificate, x509.KeyUsage)[0] == key_usage("digital_signature")


def test_server_auth_comes_only_where_the_label_lists_it(system: System) -> None:
    given, _ = extension(issue(system, label="bits"), x509.ExtendedKeyUsage)
    assert set(given) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    not_given, _ = extension(issue(system), x509.ExtendedKeyUsage)
    assert set(not_given) == {ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (x509.ExtendedKeyUsage([CMC_RA]), "cmcRA"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, CMC_RA]), "cmcRA"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), "OCSPSigning"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), "anyExtendedKeyUsage"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), "serverAuth"),
        (key_usage("digital_signature", "key_cert_sign"), "keyCertSign"),
        (key_usage("crl_sign"), "cRLSign"),
        (x509.BasicConstraints(ca=True, path_length=None), "CA:TRUE"),
        (x509.NameConstraints([x509.DNSName("example")], None), "nameConstraints"),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), "1.2.3.4"),
    ],
)
@pytest.mark.parametrize("renews", [False, True])
def test_what_no_device_may_have_is_refused_by_name_and_not_issued(
    system: System, wanted: x509.ExtensionType, word: str, renews: bool
) -> None:
    entity = f"greedy-{next(_numbers)}"
    if renews:
        leaf = system.enrolled(entity)
        answer = system.client(leaf).reenrol(make_csr(leaf.key, entity, extensions=[(wanted, False)]))
        system.refused(answer, 400, word)
        assert system.issued_to(entity) == 1
        return
    token = system.otp(entity)
    csr = make_csr(common_name=entity, extensions=[(wanted, False)])
    system.refused(system.client().enrol(csr, user=entity, password=token), 400, word)
    assert system.uses(token) == (0, 0)
    assert len(system.client().enrol(make_csr(common_name=entity), user=entity, password=token).certificates()) == 1
