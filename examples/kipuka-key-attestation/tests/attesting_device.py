"""The other side, for tests: a device whose CSRs carry what its secure element attests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from kipuka_key_attestation import CERTIFICATE, EVIDENCE, Bundle, Statement

from kipuka_core.testing.pki import Authority, make_csr


@asn1.sequence
class Attribute:
    """RFC 2986 4.1."""

    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class RequestInfo:
    """RFC 2986 4.1."""

    version: int
    subject: asn1.TLV
    spki: asn1.TLV
    attributes: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]


@asn1.sequence
class Request:
    """RFC 2986 4.2."""

    info: RequestInfo
    algorithm: asn1.TLV
    signature: asn1.BitString


def make_element_key() -> ec.EllipticCurvePrivateKey:
    """A key that would never leave its secure element."""
    return ec.generate_private_key(ec.SECP256R1())


def attestation(element: Authority, key: ec.EllipticCurvePrivateKey, **certificate: Any) -> bytes:
    """What a secure element says of a key in it, with its own certificate, as the attribute's value.

    ``certificate`` are arguments of :meth:`Authority.leaf`.
    """
    leaf = element.leaf("Attestation of slot 9a", key=key, eku=(), **certificate)
    return evidence((leaf.certificate, *leaf.chain[:-1]))


def evidence(certificates: Sequence[x509.Certificate], *, types: Sequence[str] = (CERTIFICATE,)) -> bytes:
    """An EvidenceBundle around a chain, as DER; with several ``types``, of so many statements."""
    first, *above = (asn1.decode_der(asn1.TLV, each.public_bytes(Encoding.DER)) for each in certificates)
    statements = [Statement(type=x509.ObjectIdentifier(each), stmt=first, hint=None) for each in types]
    return asn1.encode_der(Bundle(evidences=statements, certs=above or None))


def attested_csr(key: ec.EllipticCurvePrivateKey, *values_der: bytes, common_name: str = "device") -> bytes:
    """A CSR whose attribute id-aa-evidence has these values."""
    plain = asn1.decode_der(Request, make_csr(key, common_name))
    values = asn1.SetOf([asn1.decode_der(asn1.TLV, each) for each in values_der])
    attribute = Attribute(type=x509.ObjectIdentifier(EVIDENCE), values=values)
    attributes = asn1.SetOf([*plain.info.attributes.as_list(), attribute])
    info = RequestInfo(version=0, subject=plain.info.subject, spki=plain.info.spki, attributes=attributes)
    signature = key.sign(asn1.encode_der(info), ec.ECDSA(hashes.SHA256()))
    return asn1.encode_der(Request(info=info, algorithm=plain.algorithm, signature=asn1.BitString(signature, 0)))
