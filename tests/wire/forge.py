"""Certification requests that no builder makes: every part can break every rule."""

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core.testing.pki import general_name, make_key, name
from kipuka_core.wire import der

KEY = make_key()
SPKI_DER = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
MICROSOFT_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
CHANGE_SUBJECT_NAME = "1.3.6.1.5.5.7.7.36"
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
SAN = "2.5.29.17"


def extension(oid: str, value: bytes, *, critical: bool = False) -> der.Extension:
    return der.Extension(oid=x509.ObjectIdentifier(oid), critical=critical, value=value)


def san_value(*names: str) -> bytes:
    return x509.SubjectAlternativeName([general_name(text) for text in names]).public_bytes()


def forge(
    *attributes: tuple[str, list[bytes]],
    extensions: list[der.Extension] | None = None,
    subject_der: bytes | None = None,
    spki_der: bytes = SPKI_DER,
    algorithm_der: bytes = ECDSA_WITH_SHA256,
) -> bytes:
    """A CSR with what no builder makes; its signature is none."""
    if extensions is not None:
        attributes = (*attributes, (EXTENSION_REQUEST, [der.encode_extensions(extensions)]))
    entries = [
        der.Attribute(type=x509.ObjectIdentifier(oid), values=asn1.SetOf([der.tlv(value) for value in values]))
        for oid, values in attributes
    ]
    info = der.RequestInfo(
        version=0,
        subject=der.tlv(name("device").public_bytes() if subject_der is None else subject_der),
        spki=der.tlv(spki_der),
        attributes=asn1.SetOf(entries),
    )
    signature = asn1.BitString(b"\x30\x00", 0)
    return asn1.encode_der(der.Request(info=info, algorithm=der.tlv(algorithm_der), signature=signature))


def change_subject_name(subject: x509.Name | None, *san: str) -> tuple[str, list[bytes]]:
    parts = [subject.public_bytes()] if subject is not None else []
    parts += [san_value(*san)] if san else []
    elements = der._WrappedElements(elements=[der.tlv(part) for part in parts])
    return CHANGE_SUBJECT_NAME, [der.unwrap(asn1.encode_der(elements))]


EXTENSIONS = der.encode_extensions([extension(SAN, san_value("dns:a.example"))])
X25519_SPKI = bytes.fromhex("302a300506032b656e032100") + bytes(32)


def rsa_spki(exponent: int) -> bytes:
    @asn1.sequence
    class RsaKey:
        modulus: int
        exponent: int

    @asn1.sequence
    class Spki:
        algorithm: asn1.TLV
        key: asn1.BitString

    modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    key = asn1.BitString(asn1.encode_der(RsaKey(modulus=modulus, exponent=exponent)), 0)
    return asn1.encode_der(Spki(algorithm=der.tlv(bytes.fromhex("300d06092a864886f70d0101010500")), key=key))


def der_length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    return b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")


def name_der(*values: tuple[x509.ObjectIdentifier, bytes, bytes]) -> bytes:
    """A Name from OIDs, string tags and contents, which may break any rule."""
    rdns = [
        asn1.SetOf([der.NameAttribute(type=oid, value=der.tlv(tag + der_length(len(data)) + data))])
        for oid, tag, data in values
    ]
    return der.unwrap(asn1.encode_der(der._WrappedName(rdns=rdns)))


UTF8, BMP, BITS = b"\x0c", b"\x1e", b"\x03"
