"""The few ASN.1 structures that cryptography has no parser for, declared with its ``hazmat.asn1``.

That module reads and writes no SEQUENCE OF at the outermost level. So such a value is wrapped into a SEQUENCE with
one field, which :func:`wrap` adds and :func:`unwrap` removes.

Every function that reads raises ValueError for bytes that are not what it reads.
"""

from __future__ import annotations

from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1


@asn1.sequence
class Attribute:
    """RFC 2986 4.1: ``SEQUENCE { type OBJECT IDENTIFIER, values SET OF ANY }``."""

    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class Extension:
    """RFC 5280 4.1, with the value as the DER inside its OCTET STRING."""

    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class NameAttribute:
    """AttributeTypeAndValue of RFC 5280 4.1.2.4."""

    type: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class RequestInfo:
    """CertificationRequestInfo of RFC 2986 4.1."""

    version: int
    subject: asn1.TLV
    spki: asn1.TLV
    attributes: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]


@asn1.sequence
class Request:
    """CertificationRequest of RFC 2986 4.2."""

    info: RequestInfo
    algorithm: asn1.TLV
    signature: asn1.BitString


@asn1.sequence
class _Wrapped:
    content: asn1.TLV


@asn1.sequence
class _WrappedElements:
    elements: list[asn1.TLV]


@asn1.sequence
class _WrappedName:
    rdns: list[asn1.SetOf[NameAttribute]]


@asn1.sequence
class _WrappedExtensions:
    extensions: list[Extension]


def tlv(der: bytes) -> asn1.TLV:
    """One DER value of any type, with nothing after it."""
    return asn1.decode_der(asn1.TLV, der)


def element(tag: int | bytes, *contents: bytes) -> bytes:
    """Write one DER value: its tag (one octet, X.690 8.1.2.2, or all of them), its length, and its joined content."""
    length = sum(map(len, contents))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    head = bytes((length,)) if length < 0x80 else bytes((0x80 | len(octets),)) + octets
    return b"".join((bytes((tag,)) if isinstance(tag, int) else tag, head, *contents))


def whole(value: asn1.TLV) -> bytes:
    """The DER that :func:`tlv` or :func:`sequence_elements` has read this value from."""
    return element(bytes(value.tag_bytes), bytes(value.data))


def wrap(der: bytes) -> bytes:
    """A SEQUENCE that holds one DER value."""
    return asn1.encode_der(_Wrapped(content=tlv(der)))


def unwrap(der: bytes) -> bytes:
    """What :func:`wrap` was given."""
    return bytes(tlv(der).data)


def sequence_elements(der: bytes) -> list[asn1.TLV]:
    """The elements of a SEQUENCE, whatever they are."""
    return asn1.decode_der(_WrappedElements, wrap(der)).elements


def decode_name(der: bytes) -> list[NameAttribute]:
    """Read the attributes of a ``Name`` (RFC 5280 4.1.2.4), in order."""
    rdns = asn1.decode_der(_WrappedName, wrap(der)).rdns
    return [attribute for rdn in rdns for attribute in rdn.as_list()]


def decode_extensions(der: bytes) -> list[Extension]:
    """Read ``Extensions`` (RFC 5280 4.1)."""
    return asn1.decode_der(_WrappedExtensions, wrap(der)).extensions


def encode_extensions(extensions: list[Extension]) -> bytes:
    """Write ``Extensions`` (RFC 5280 4.1)."""
    return unwrap(asn1.encode_der(_WrappedExtensions(extensions=extensions)))
