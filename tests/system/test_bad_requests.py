"""Bad input gets a clear 4xx, uses nothing up, issues nothing and is one event each (row 15)."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import gcd

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core.testing.client import Answer, basic
from kipuka_core.testing.pki import key_pem, make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.system.system_kit import PKCS10, RawConnection, System, credentials, deploy, head, serving
from tests.wire.forge import (
    EXTENSION_REQUEST,
    EXTENSIONS,
    MICROSOFT_EXTENSION_REQUEST,
    SAN,
    extension,
    forge,
    san_value,
)

_numbers = count()
PRIMORIAL = 0x924CBA6AE99DFA084537FACC54948DF0C23DA044D8CABE0EDD75BC6


def csr_of(key: CertificateIssuerPrivateKeyTypes, entity: str) -> bytes:
    return base64.encodebytes(make_csr(key, entity))


def is_prime(number: int) -> bool:
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7))


def rsa_key(p: int, q: int, exponent: int = 65537) -> rsa.RSAPrivateKey:
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()


def small_exponent_key() -> rsa.RSAPrivateKey:
    while True:
        numbers = rsa.generate_private_key(65537, 2048).private_numbers()
        if gcd(3, (numbers.p - 1) * (numbers.q - 1)) == 1:
            return rsa_key(numbers.p, numbers.q, 3)


def roca_key() -> rsa.RSAPrivateKey:
    """Primes as the faulty library made them: k * M + (65537 ^ a mod M)."""

    def prime(start: int, power: int) -> int:
        base, k = pow(65537, power, PRIMORIAL), start // PRIMORIAL
        return next(each for each in (base + (k + step) * PRIMORIAL for step in count()) if is_prime(each))

    return rsa_key(prime(7 * 2**1021, 1234), prime(15 * 2**1020, 4321))


def forged_twice(entity: str) -> bytes:
    return base64.encodebytes(forge(extensions=[extension(SAN, san_value(f"dns:{entity}"))] * 2))


def with_bad_signature(entity: str) -> bytes:
    csr = bytearray(make_csr(common_name=entity))
    other = x509.load_der_x509_csr(make_csr(common_name=entity)).signature
    mine = x509.load_der_x509_csr(bytes(csr)).signature
    csr_text = bytes(csr).replace(mine[-20:], other[-20:])
    return base64.encodebytes(csr_text)


def with_names(entity: str, number: int) -> bytes:
    return base64.encodebytes(make_csr(common_name=entity, san=[f"dns:n{each}.example" for each in range(number)]))


def pem(entity: str) -> bytes:
    body = base64.encodebytes(make_csr(common_name=entity))
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


@dataclass(frozen=True, slots=True)
class BadBody:
    body: Callable[[str], bytes]
    words: str
    code: str = "malformed_request"


BODIES = {
    "empty": BadBody(lambda _: b"", "empty"),
    "white space": BadBody(lambda _: b" \r\n\t", "empty"),
    "text": BadBody(lambda _: b"please, a certificate", "no base64 character"),
    "json": BadBody(lambda _: b'{"csr": "MIIB"}', "no base64 character"),
    "url-safe base64": BadBody(lambda _: b"MII_-_-_", "no base64 character"),
    "binary": BadBody(lambda _: bytes(range(128, 256)), "no base64 character"),
    "bad padding": BadBody(lambda entity: csr_of(make_key(), entity).rstrip() + b"A", "wrongly padded"),
    "base64 cut off": BadBody(lambda entity: csr_of(make_key(), entity)[:101], "cut off"),
    "whole quads cut off": BadBody(lambda entity: csr_of(make_key(), entity)[:65], "cut off"),
    "der cut off": BadBody(lambda entity: make_csr(common_name=entity)[:-3], "cut off"),
    "der with more behind": BadBody(lambda entity: make_csr(common_name=entity) + b"\0\0", "after the end"),
    "two requests": BadBody(
        lambda entity: base64.encodebytes(make_csr(common_name=entity) * 2), "after the end of the DER"
    ),
    "other der": BadBody(lambda _: base64.b64encode(bytes.fromhex("30030101ff")), "not a PKCS#10"),
    "not der": BadBody(lambda _: base64.b64encode(b"hello, world"), "not a DER SEQUENCE"),
    "pem cut off": BadBody(lambda entity: pem(entity)[:-20], "exactly one PEM block"),
    "two pem blocks": BadBody(lambda entity: pem(entity) * 2, "exactly one PEM block"),
    "private key": BadBody(lambda _: key_pem(make_key()), "private key; keep it secret"),
    "pem of another kind": BadBody(lambda entity: pem(entity).replace(b" REQUEST", b""), "not a CERTIFICATE REQUEST"),
    "bad signature": BadBody(with_bad_signature, "not signed by the private key", "proof_of_possession_failed"),
    "rsa 1024": BadBody(
        lambda entity: csr_of(rsa.generate_private_key(65537, 1024), entity), "RSA with 1024", "csr_refused"
    ),
    "unknown curve": BadBody(
        lambda entity: csr_of(ec.generate_private_key(ec.SECP256K1()), entity), "secp256k1", "csr_refused"
    ),
    "ed25519, not listed": BadBody(lambda entity: csr_of(make_key("ed25519"), entity), "Ed25519", "csr_refused"),
    "small exponent": BadBody(lambda entity: csr_of(small_exponent_key(), entity), "exponent", "csr_refused"),
    "roca": BadBody(lambda entity: csr_of(roca_key(), entity), "ROCA", "csr_refused"),
    "unknown key type": BadBody(
        lambda _: base64.encodebytes(forge(spki_der=bytes.fromhex("300d300706032b06010500030200ff"))), "", "csr_refused"
    ),
    "sha-1": BadBody(lambda entity: base64.encodebytes(sha1_signed(entity)), "sha1", "csr_refused"),
    "duplicate extension": BadBody(forged_twice, "asks twice for the extension 2.5.29.17", "csr_refused"),
    "two extension requests": BadBody(
        lambda _: base64.encodebytes(
            forge((EXTENSION_REQUEST, [EXTENSIONS]), (MICROSOFT_EXTENSION_REQUEST, [EXTENSIONS]))
        ),
        "2 extensionRequest attributes",
        "csr_refused",
    ),
    "thousands of names": BadBody(lambda entity: with_names(entity, 2500), "at most", "csr_refused"),
    "a hundred and one names": BadBody(lambda entity: with_names(entity, 101), "101", "csr_refused"),
}


def sha1_signed(entity: str) -> bytes:
    """SHA-1 where SHA-256 stood: the builder does not sign so any more."""
    csr = make_csr(make_key("rsa2048"), entity)
    return csr.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105"))


@pytest.mark.parametrize("kind", BODIES)
def test_a_bad_body_is_400_and_leaves_the_one_time_password_good(system: System, kind: str) -> None:
    bad, entity = BODIES[kind], f"bad-{next(_numbers)}"
    token = system.otp(entity)
    answer = system.client().request("POST", "simpleenroll", bad.body(entity), credentials(entity, token))
    if kind == "sha-1":  # the signature that was taken over is none by SHA-1, and that is what is seen first
        fact = system.refused(answer, 400, "CSR")
    else:
        fact = system.refused(answer, 400, bad.words)
        assert fact["code"] == bad.code
    assert fact["actor"] == entity
    assert system.uses(token) == (0, 0)
    assert len(system.client().enrol(make_csr(common_name=entity), user=entity, password=token).certificates()) == 1


@pytest.mark.parametrize("kind", BODIES)
def test_the_same_body_is_400_for_a_renewal_and_nothing_is_issued(system: System, kind: str) -> None:
    bad = BODIES[kind]
    leaf = system.enrolled("renews-badly")
    before = system.issued_to("renews-badly")
    answer = system.client(leaf).request("POST", "simplereenroll", bad.body("renews-badly"), PKCS10)
    fact = system.refused(answer, 400)
    assert fact["operation"] == "simplereenroll"
    assert system.issued_to("renews-badly") == before


@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll"])
def test_a_body_beyond_the_limit_is_413_with_and_without_its_length(system: System, operation: str) -> None:
    body = with_names("huge", 10_000)
    assert len(body) > 65536
    token = system.otp("huge")
    answer = system.client().request("POST", operation, body, credentials("huge", token))
    system.refused(answer, 413, "65536 bytes")
    lines = [f"{name}: {value}" for name, value in credentials("huge", token).items()]
    with RawConnection(system) as connection:
        connection.send(head("POST", operation, *lines, "Transfer-Encoding: chunked"))
        for start in range(0, len(body), 16384):
            part = body[start : start + 16384]
            connection.send(b"%x\r\n%s\r\n" % (len(part), part))
        connection.send(b"0\r\n\r\n")
        system.refused(connection.answer(), 413, "65536 bytes")
    assert system.uses(token) == (0, 0)


def test_a_body_that_says_it_is_endless_is_413_before_it_is_read(system: System) -> None:
    with RawConnection(system) as connection:
        connection.send(head("POST", "simpleenroll", "Content-Type: application/pkcs10", "Content-Length: 99999999999"))
        system.refused(connection.answer(), 413)
        assert connection.at_end()


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/pkcs7-mime",
        "pkcs10",
        "a/b; c",
    ],
)
def test_a_wrong_media_type_is_415_before_anybody_is_asked_who_they_are(system: System, media_type: str) -> None:
    body, token = base64.encodebytes(make_csr(common_name="typed")), system.otp("typed")
    for more in ({}, {"Authorization": basic("typed", token)}, {"Authorization": basic("typed", "wrong")}):
        answer = system.client().request("POST", "simpleenroll", body, {"Content-Type": media_type, **more})
        assert "actor" not in system.refused(answer, 415, "application/pkcs10")
    assert system.uses(token) == (0, 0)
    assert system.rows("SELECT 1 FROM auth_failures WHERE entity_id = 'typed'") == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"\xff\xfe:token", "UTF-8"),
        (b"device", "no colon"),
        (b"de\x00vice:token", "control characters"),
        (b"device:to\nken", "control characters"),
        (b"x" * 4000 + b":token", "longer than"),
    ],
)
def test_credentials_that_cannot_be_read_are_400(system: System, value: bytes, words: str) -> None:
    authorization = "Basic " + base64.b64encode(value).decode()
    body = base64.encodebytes(make_csr())
    answer = system.client().request("POST", "simpleenroll", body, {**PKCS10, "Authorization": authorization})
    system.refused(answer, 400, words)


def test_credentials_that_are_no_base64_are_400(system: System) -> None:
    headers = {**PKCS10, "Authorization": "Basic !!!"}
    system.refused(system.client().request("POST", "simpleenroll", b"MII=", headers), 400, "not base64")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    limits = "max_body_size = 2000\nbody_timeout = 1\n"
    with serving(deploy(tmp_path_factory.mktemp("impatient") / "deployment", server=limits)) as running:
        yield running


def started(system: System, token: str, *lines: str) -> RawConnection:
    """An enrolment whose body does not come to its end."""
    connection = RawConnection(system, tls=ssl.TLSVersion.TLSv1_3)
    authorization = [f"{name}: {value}" for name, value in credentials("slow", token).items()]
    connection.send(head("POST", "simpleenroll", *authorization, *lines))
    return connection


@pytest.mark.parametrize(
    ("line", "part"), [("Content-Length: 500", b"MIIB"), ("Transfer-Encoding: chunked", b"4\r\nMIIB\r\n")]
)
def test_a_body_that_does_not_come_is_408_and_uses_nothing_up(impatient: System, line: str, part: bytes) -> None:
    token = impatient.otp("slow")
    with started(impatient, token, line) as connection:
        connection.send(part)
        fact = impatient.refused(connection.answer(), 408, "within 1 seconds")
    assert fact["code"] == "body_timeout"
    assert impatient.uses(token) == (0, 0)
    assert len(impatient.client().enrol(make_csr(common_name="slow"), user="slow", password=token).certificates()) == 1


def test_the_configured_limit_is_the_one_that_counts(impatient: System) -> None:
    token = impatient.otp("slow")
    fits, too_long = csr_of(make_key(), "slow"), csr_of(make_key(), "slow") + b"\n" * 2000
    impatient.refused(impatient.client().request("POST", "simpleenroll", too_long, credentials("slow", token)), 413)
    exactly = fits + b"\n" * (2000 - len(fits))
    assert (
        len(impatient.client().request("POST", "simpleenroll", exactly, credentials("slow", token)).certificates()) == 1
    )


def test_a_client_that_hangs_up_in_the_middle_is_one_event_at_most_and_uses_nothing_up(impatient: System) -> None:
    token = impatient.otp("slow")
    before = len(impatient.audit())
    issued = impatient.issued_to("slow")
    for _ in range(3):
        with started(impatient, token, "Content-Length: 500") as connection:
            connection.send(b"MIIB")
    wait_until(lambda: sum(fact.get("code") == "client_gone" for fact in impatient.audit()[before:]) >= 3)
    assert impatient.client().request("GET", "cacerts").status == 200
    facts = impatient.audit()[before:]
    assert [fact["event"] for fact in facts] == ["enrolment_refused"] * 3
    assert len({fact["request_id"] for fact in facts}) == 3
    assert impatient.uses(token) == (0, 0)
    assert impatient.issued_to("slow") == issued
    assert len(impatient.client().enrol(make_csr(common_name="slow"), user="slow", password=token).certificates()) == 1


def test_a_client_that_loses_the_answer_gets_the_same_certificate_again(impatient: System) -> None:
    token, body = impatient.otp("slow"), base64.encodebytes(make_csr(common_name="slow"))
    before = impatient.issued_to("slow")
    with started(impatient, token, f"Content-Length: {len(body)}") as connection:
        connection.send(body)
        wait_until(lambda: impatient.uses(token) == (1, 0))
    again: Answer = impatient.client().request("POST", "simpleenroll", body, credentials("slow", token))
    assert len(again.certificates()) == 1
    assert impatient.issued_to("slow") == before + 1
