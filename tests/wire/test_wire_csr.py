import subprocess
from pathlib import Path
from typing import Never

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core.errors import CsrRefused
from kipuka_core.model.key_type import KeyType, key_type_of
from kipuka_core.testing.pki import general_name, make_csr, make_key, name
from kipuka_core.testing.samples import all_key_types
from kipuka_core.wire import der
from kipuka_core.wire.csr import decode_csr, verify_possession
from tests.wire.forge import (
    BITS,
    BMP,
    CHALLENGE_PASSWORD,
    KEY,
    MICROSOFT_EXTENSION_REQUEST,
    SAN,
    SPKI_DER,
    UTF8,
    X25519_SPKI,
    change_subject_name,
    extension,
    forge,
    name_der,
    san_value,
)


@pytest.mark.parametrize("key_type", [key_type for key_type in all_key_types() if not key_type.startswith("rsa")])
def test_every_key_type_is_decoded_and_its_possession_verified(key_type: str) -> None:
    csr = decode_csr(make_csr(make_key(key_type), san=["dns:a.example", "ip:192.0.2.1"]))
    verify_possession(csr)
    assert key_type_of(csr.public_key) == KeyType(key_type)
    assert csr.subject == name("device")
    assert csr.san == (general_name("dns:a.example"), general_name("ip:192.0.2.1"))
    assert csr.challenge_password is None
    assert csr.change_subject_name is None


@pytest.mark.parametrize(
    ("options", "key_type", "signature_hash", "oid"),
    [
        ("rsa:2048 -sha384", "rsa2048", "sha384", "1.2.840.113549.1.1.12"),
        ("rsa:2048 -sha256 -sigopt rsa_padding_mode:pss", "rsa2048", "sha256", "1.2.840.113549.1.1.10"),
        ("ec -pkeyopt ec_paramgen_curve:P-256", "ecdsa256", "sha256", "1.2.840.10045.4.3.2"),
        ("ec -pkeyopt ec_paramgen_curve:P-384 -sha384", "ecdsa384", "sha384", "1.2.840.10045.4.3.3"),
        ("ed25519", "ed25519", None, "1.3.101.112"),
    ],
)
def test_requests_of_openssl_are_decoded(
    tmp_path: Path, options: str, key_type: str, signature_hash: str | None, oid: str
) -> None:
    """Made by ``openssl req`` (OpenSSL 3.0) with a SAN, a key usage and a challengePassword."""
    config = tmp_path / "req.cnf"
    config.write_text(
        "[req]\nprompt=no\ndistinguished_name=dn\nattributes=at\nreq_extensions=ext\n[dn]\nO=Example\nCN=device\n"
        "[at]\nchallengePassword=abc+/12=\n[ext]\nsubjectAltName=DNS:a.example\nkeyUsage=critical,digitalSignature\n"
    )
    command = f"openssl req -new -config {config} -newkey {options} -nodes -keyout {tmp_path}/key.pem -outform DER"
    made = subprocess.run(command.split(), capture_output=True, check=True)
    csr = decode_csr(made.stdout)
    verify_possession(csr)
    assert key_type_of(csr.public_key) == KeyType(key_type)
    assert (csr.signature_hash, csr.signature_algorithm_oid) == (signature_hash, oid)
    assert csr.subject.rfc4514_string() == "CN=device,O=Example"
    assert csr.san == (general_name("dns:a.example"),)
    assert [(each.oid.dotted_string, each.critical) for each in csr.extensions] == [(SAN, False), ("2.5.29.15", True)]
    assert csr.challenge_password == b"abc+/12="


def test_an_unsupported_hash_and_an_unusual_key_size_are_for_the_policies_to_judge() -> None:
    csr = decode_csr(make_csr(make_key("rsa1024"), hash_algorithm=SHA384()))
    assert csr.signature_hash == "sha384"
    assert key_type_of(csr.public_key) is None


@pytest.mark.parametrize("tag", [0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E])
def test_a_challenge_password_of_any_string_type_is_read_as_its_bytes(tag: int) -> None:
    csr = decode_csr(forge((CHALLENGE_PASSWORD, [bytes([tag, 4]) + b"ab+="])))
    assert csr.challenge_password == b"ab+="


def test_unknown_attributes_are_ignored_even_with_many_values() -> None:
    csr = decode_csr(forge(("1.2.3.4", [b"\x02\x01\x01", b"\x02\x01\x02"]), ("1.2.3.5", [])))
    assert csr.extensions == ()


def test_unknown_extensions_are_kept_for_the_policies_to_judge() -> None:
    csr = decode_csr(forge(extensions=[extension("1.2.3.4", b"anything", critical=True)]))
    (kept,) = csr.extensions
    assert (kept.oid.dotted_string, kept.critical) == ("1.2.3.4", True)


def test_an_extension_request_of_microsoft_is_read_like_the_standard_one() -> None:
    value = der.encode_extensions([extension(SAN, san_value("dns:a.example"))])
    assert decode_csr(forge((MICROSOFT_EXTENSION_REQUEST, [value]))).san == (general_name("dns:a.example"),)


@pytest.mark.parametrize(
    "value",
    [
        (x509.NameOID.COMMON_NAME, UTF8, b"x" * 64),
        (x509.NameOID.COMMON_NAME, BMP, "é".encode("utf-16-be") * 32),
        (x509.NameOID.GIVEN_NAME, UTF8, b"x" * 255),
        (x509.NameOID.COUNTRY_NAME, b"\x13", b"NZ"),
        (x509.NameOID.X500_UNIQUE_IDENTIFIER, BITS, b"\x00\x01"),
    ],
)
def test_a_subject_within_its_bounds_is_decoded(value: tuple[x509.ObjectIdentifier, bytes, bytes]) -> None:
    csr = decode_csr(forge(subject_der=name_der(value)))
    assert [attribute.oid for attribute in csr.subject] == [value[0]]


def test_a_certificate_request_may_have_an_empty_subject() -> None:
    assert decode_csr(forge(subject_der=b"\x30\x00")).subject == x509.Name([])


def test_a_signature_by_another_key_is_no_proof_of_possession() -> None:
    signed = make_csr(KEY, challenge_password=b"abcd")
    other_key = make_key()
    other = other_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for changed in (signed.replace(SPKI_DER, other), signed.replace(b"abcd", b"abce")):
        csr = decode_csr(changed)
        with pytest.raises(CsrRefused, match="not signed by the private key") as refused:
            verify_possession(csr)
        assert refused.value.code == "proof_of_possession_failed"


@pytest.mark.parametrize(
    "csr_der",
    [
        forge(spki_der=X25519_SPKI),
        forge(algorithm_der=bytes.fromhex("300506032b6570")),
        forge(algorithm_der=bytes.fromhex("300d06092a864886f70d0101040500")),
    ],
    ids=["key cannot sign", "algorithm of another key", "md5"],
)
def test_a_signature_that_cannot_be_verified_is_no_proof_of_possession(csr_der: bytes) -> None:
    with pytest.raises(CsrRefused) as refused:
        verify_possession(decode_csr(csr_der))
    assert refused.value.code == "proof_of_possession_failed"


def test_proof_of_possession_fails_closed_when_the_library_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    csr = decode_csr(make_csr(KEY))

    class GivesUp:
        @property
        def is_signature_valid(self) -> Never:
            raise UnsupportedAlgorithm("not in this build")

    monkeypatch.setattr(x509, "load_der_x509_csr", lambda _: GivesUp())
    with pytest.raises(CsrRefused, match="cannot be verified"):
        verify_possession(csr)


@pytest.mark.parametrize(
    ("attribute", "subject", "san"),
    [
        (change_subject_name(name("new", O="Example")), name("new", O="Example"), None),
        (change_subject_name(None, "dns:new.example", "ip:192.0.2.9"), None, ("dns:new.example", "ip:192.0.2.9")),
        (change_subject_name(name("new"), "dns:new.example"), name("new"), ("dns:new.example",)),
        (change_subject_name(x509.Name([]), "dns:new.example"), x509.Name([]), ("dns:new.example",)),
        (change_subject_name(x509.Name([])), x509.Name([]), None),
    ],
)
def test_the_change_subject_name_attribute_of_rfc_6402_is_parsed(
    attribute: tuple[str, list[bytes]], subject: x509.Name | None, san: tuple[str, ...] | None
) -> None:
    change = decode_csr(forge(attribute, extensions=[])).change_subject_name
    assert change is not None
    assert change.subject == subject
    assert change.san == (None if san is None else tuple(map(general_name, san)))


def test_the_fingerprint_outlives_a_new_signature_and_a_new_channel_binding() -> None:
    one = decode_csr(make_csr(KEY, san=["dns:a.example"], challenge_password=b"one"))
    other = decode_csr(make_csr(KEY, san=["dns:a.example"], challenge_password=b"other"))
    assert one.der != other.der
    assert one.fingerprint == other.fingerprint
    assert len(bytes.fromhex(one.fingerprint)) == 32


def test_the_fingerprint_changes_with_everything_that_would_be_certified() -> None:
    san = extension(SAN, san_value("dns:a.example"))
    usage = extension("2.5.29.15", bytes.fromhex("03020780"))
    requests = [
        make_csr(KEY),
        make_csr(make_key()),
        make_csr(KEY, "other"),
        make_csr(KEY, san=["dns:a.example"]),
        make_csr(KEY, san=["dns:b.example"]),
        forge(extensions=[san, usage]),
        forge(extensions=[usage, san]),
        forge(change_subject_name(name("new"))),
        forge(change_subject_name(name("newer"))),
    ]
    assert len({decode_csr(request).fingerprint for request in requests}) == len(requests)
