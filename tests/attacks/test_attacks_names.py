"""Names in a CSR of which some programs read something and others nothing."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core.errors import CsrRefused
from kipuka_core.testing.pki import make_key
from kipuka_core.wire import der
from kipuka_core.wire.csr import decode_csr

SPKI_DER = make_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def csr_of(attribute: x509.ObjectIdentifier, value_der: bytes) -> bytes:
    rdn = asn1.SetOf([der.NameAttribute(type=attribute, value=der.tlv(value_der))])
    subject = der.unwrap(asn1.encode_der(der._WrappedName(rdns=[rdn])))
    info = der.RequestInfo(version=0, subject=der.tlv(subject), spki=der.tlv(SPKI_DER), attributes=asn1.SetOf([]))
    request = der.Request(
        info=info, algorithm=der.tlv(ECDSA_WITH_SHA256), signature=asn1.BitString(bytes.fromhex("3000"), 0)
    )
    return asn1.encode_der(request)


@pytest.mark.parametrize("tag", [0x1A, 0x04, 0x1B])
@pytest.mark.parametrize("attribute", [x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME])
def test_a_name_of_a_type_that_openssl_cannot_read_is_refused(attribute: x509.ObjectIdentifier, tag: int) -> None:
    """VisibleString, OCTET STRING, GeneralString: the certificate would be issued, and of no use to anyone."""
    with pytest.raises(CsrRefused, match="cannot be parsed"):
        decode_csr(csr_of(attribute, bytes([tag, 6]) + b"device"))


@pytest.mark.parametrize("tag", [0x0C, 0x12, 0x13, 0x14, 0x16])
def test_a_name_of_a_usual_string_type_is_read(tag: int) -> None:
    csr = decode_csr(csr_of(x509.NameOID.COMMON_NAME, bytes([tag, 6]) + b"device"))
    assert [attribute.value for attribute in csr.subject] == ["device"]
