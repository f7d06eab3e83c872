"""OCSP as bytes: requests of others read, answers read by others."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from kipuka_core.edges.status.signing import sign
from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing.pki import make_root
from kipuka_core.testing.samples import NOW
from kipuka_core.wire.der import decode_extensions, element, sequence_elements, whole
from kipuka_core.wire.ocsp import (
    CertId,
    OcspError,
    OcspMalformed,
    ResponseData,
    SingleStatus,
    basic_response,
    error_response,
    read_request,
)
from kipuka_core.wire.signature_algorithms import signature_algorithm

ROOT = make_root()
LEAF = ROOT.leaf("device")
HASHES = (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())


def request(*extensions: tuple[x509.ExtensionType, bool], algorithm: hashes.HashAlgorithm = HASHES[1]) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(LEAF.certificate, ROOT.certificate, algorithm)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.build().public_bytes(Encoding.DER)


def cert_id(number: int = 0) -> CertId:
    (known,) = read_request(request()).cert_ids
    parts = [whole(part) for part in sequence_elements(known.der)]
    der = element(0x30, *parts[:3], element(0x02, (number + 1).to_bytes(4, "big").lstrip(b"\0") or b"\0"))
    return CertId(der, known.hash_oid, known.issuer_name_hash, known.issuer_key_hash, number + 1)


def many(cert_ids: list[bytes], *, version: bytes = b"", more: bytes = b"") -> bytes:
    requests = element(0x30, *(element(0x30, each) for each in cert_ids))
    return element(0x30, element(0x30, version, requests, more))


@pytest.mark.parametrize("algorithm", HASHES, ids=lambda each: each.name)
def test_a_request_of_cryptography_is_read(algorithm: hashes.HashAlgorithm) -> None:
    der = request(algorithm=algorithm)
    theirs = ocsp.load_der_ocsp_request(der)
    (ours,) = read_request(der).cert_ids
    assert (ours.serial, ours.issuer_name_hash, ours.issuer_key_hash) == (
        theirs.serial_number,
        theirs.issuer_name_hash,
        theirs.issuer_key_hash,
    )
    assert read_request(der).nonce is None
    assert ours.der in der


@pytest.mark.parametrize("length", [1, 16, 32, 127, 128])
def test_nonces_of_rfc_9654_are_taken(length: int) -> None:
    nonce = bytes(range(length))
    assert read_request(request((x509.OCSPNonce(nonce), False))).nonce == nonce


@pytest.mark.parametrize("length", [0, 129, 1000])
def test_other_nonces_are_malformed(length: int) -> None:
    with pytest.raises(OcspMalformed, match="1 to 128 octets"):
        read_request(request((x509.OCSPNonce(bytes(length)), False)))


def test_unknown_extensions_are_passed_over_unless_they_are_critical() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert len(read_request(request((unknown, False))).cert_ids) == 1
    with pytest.raises(OcspMalformed, match="critical"):
        read_request(request((unknown, True)))


def test_several_requests_in_one_message_are_all_read() -> None:
    ids = [cert_id(number).der for number in range(32)]
    assert [each.serial for each in read_request(many(ids)).cert_ids] == list(range(1, 33))
    with pytest.raises(OcspMalformed, match="1 to 32"):
        read_request(many([*ids, cert_id(40).der]))
    with pytest.raises(OcspMalformed, match="1 to 32"):
        read_request(many([]))


def test_a_version_that_is_written_although_it_is_the_default_is_read_and_another_is_not() -> None:
    assert read_request(many([cert_id().der], version=b"\xa0\x03\x02\x01\x00")).cert_ids[0].serial == 1
    with pytest.raises(OcspMalformed, match="version"):
        read_request(many([cert_id().der], version=b"\xa0\x03\x02\x01\x01"))


def test_an_empty_nonce_twice_or_of_another_type_is_malformed() -> None:
    oid = bytes.fromhex("06092b0601050507300102")
    for value in (b"\x04\x01n", b"\x02\x01n"):
        nonce = element(0x30, oid, element(0x04, value))
        extensions = element(0xA2, element(0x30, *([nonce] * (2 if value[0] == 4 else 1))))
        with pytest.raises(OcspMalformed):
            read_request(many([cert_id().der], more=extensions))


@given(st.binary(max_size=300))
def test_any_bytes_are_malformed_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(OcspMalformed):
        read_request(data)


@given(st.data())
def test_any_damage_to_a_request_is_malformed_or_another_request(data: st.DataObject) -> None:
    der = bytearray(request((x509.OCSPNonce(b"n" * 16), False)))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(der)[: data.draw(st.integers(0, len(der)))]
    for damaged in (bytes(der), cut):
        try:
            assert read_request(damaged).cert_ids
        except OcspMalformed:
            continue


def answered(*statuses: SingleStatus, nonce: bytes | None = None) -> bytes:
    algorithm_hash = signing_hash(ROOT.key)
    assert algorithm_hash is not None
    data = ResponseData(
        responder_key_hash=x509.SubjectKeyIdentifier.from_public_key(ROOT.certificate.public_key()).digest,
        statuses=statuses,
        this_update=NOW,
        next_update=NOW + timedelta(hours=1),
        nonce=nonce,
    ).encode()
    algorithm = signature_algorithm(ROOT.key.public_key(), algorithm_hash.name)
    return basic_response(data, algorithm, sign(ROOT.key, algorithm_hash, data), ROOT.certificate)


def read(der: bytes) -> Any:
    return ocsp.load_der_ocsp_response(der)


def test_the_three_statuses_are_read_by_cryptography() -> None:
    good = read(answered(SingleStatus(cert_id=cert_id(), is_good=True)))
    assert good.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert (good.this_update_utc, good.next_update_utc, good.produced_at_utc) == (NOW, NOW + timedelta(hours=1), NOW)
    assert good.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(ROOT.certificate.public_key()).digest
    assert good.certificates == [ROOT.certificate]
    assert read(answered(SingleStatus(cert_id=cert_id()))).certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    revoked = read(answered(SingleStatus(cert_id=cert_id(), revoked_at=NOW, reason=6)))
    assert revoked.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert revoked.revocation_time_utc == NOW
    assert revoked.revocation_reason is x509.ReasonFlags.certificate_hold
    assert read(answered(SingleStatus(cert_id=cert_id(), revoked_at=NOW, reason=0))).revocation_reason is None


def test_the_nonce_comes_back_and_all_statuses_are_there_in_order() -> None:
    answer = read(answered(SingleStatus(cert_id=cert_id(), is_good=True), nonce=b"n" * 128))
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 128
    several = read(answered(*(SingleStatus(cert_id=cert_id(number), is_good=True) for number in range(3))))
    assert [each.serial_number for each in several.responses] == [1, 2, 3]


def test_errors_are_unsigned_answers() -> None:
    names = {each: read(error_response(each)).response_status.name for each in OcspError}
    assert names == {each: each.name for each in OcspError}


def test_decoding_is_of_whole_values() -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of any kind
        decode_extensions(b"\x30\x80")
