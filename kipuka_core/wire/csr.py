"""PKCS#10 requests (RFC 2986): decoding, and proof of possession (RFC 7030 3.4).

Whatever bytes come in, only a :class:`~kipuka_core.errors.RequestRefused` goes out. cryptography has no list of what
it raises for hostile input, so its every exception is a refusal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core.errors import CsrRefused, Malformed
from kipuka_core.model.request import Csr
from kipuka_core.wire import der
from kipuka_core.wire.csr_names import EXTENSION_REQUEST, decode_change_subject_name, unparsable_extensions
from kipuka_core.wire.name_limits import MAX_SAN_ENTRIES, check_name, check_san

MAX_EXTENSIONS_BYTES = 16384
"""Of the DER of all requested extensions: what is longer is refused before it is parsed."""

_CHALLENGE_PASSWORD = x509.ObjectIdentifier("1.2.840.113549.1.9.7")
_CHANGE_SUBJECT_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.7.36")
# Microsoft's own extension request: cryptography reads it as the standard one, so a CSR may have only one of the two.
_MICROSOFT_EXTENSION_REQUEST = x509.ObjectIdentifier("1.3.6.1.4.1.311.2.1.14")
_EXTENSION_REQUESTS = (EXTENSION_REQUEST, _MICROSOFT_EXTENSION_REQUEST)
# UTF8String, PrintableString, TeletexString, IA5String, UniversalString, BMPString (RFC 2985 5.4.1, and IA5).
_STRING_TAGS = frozenset((b"\x0c", b"\x13", b"\x14", b"\x16", b"\x1c", b"\x1e"))

_T = TypeVar("_T")


def decode_csr(csr_der: bytes) -> Csr:
    """Decode a PKCS#10 request, without believing anything in it.

    Raises Malformed for what is not PKCS#10, and CsrRefused for a key, a name, an attribute or an extension that
    cannot be read, stands there twice or is beyond the limits of this module and of ``name_limits``.
    """
    try:
        request = x509.load_der_x509_csr(csr_der)
        info = asn1.decode_der(der.RequestInfo, request.tbs_certrequest_bytes)
        attributes = info.attributes.as_list()
    except Exception as error:
        raise Malformed("the body is not a PKCS#10 certification request in DER (RFC 2986)") from error
    extensions_tlv = _single_value(attributes, "extensionRequest", *_EXTENSION_REQUESTS)
    change_tlv = _single_value(attributes, "ChangeSubjectName", _CHANGE_SUBJECT_NAME)
    public_key = _public_key(request)
    spki_der = _or_refuse(
        lambda: public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "the public key of the CSR cannot be encoded",
    )
    return Csr(
        der=csr_der,
        subject=_subject(request, info.subject),
        public_key=public_key,
        spki_der=spki_der,
        signature_hash=_signature_hash(request),
        signature_algorithm_oid=request.signature_algorithm_oid.dotted_string,
        extensions=_extensions(request, extensions_tlv) if extensions_tlv else (),
        challenge_password=_challenge_password(attributes),
        change_subject_name=decode_change_subject_name(change_tlv) if change_tlv else None,
        fingerprint=_fingerprint(asn1.encode_der(info.subject), spki_der, extensions_tlv, change_tlv),
    )


def verify_possession(csr: Csr) -> None:
    """Check that the CSR is signed by the very key that it asks a certificate for (RFC 7030 3.4).

    Raises CsrRefused (``proof_of_possession_failed``) when it is not, or when that cannot be found out.
    """
    try:
        proven = x509.load_der_x509_csr(csr.der).is_signature_valid
    except Exception as error:
        raise CsrRefused(
            f"the signature of the CSR ({csr.signature_algorithm_oid}) cannot be verified with its key;"
            " sign it with the private key that belongs to it, by an algorithm of that key",
            code="proof_of_possession_failed",
        ) from error
    if not proven:
        raise CsrRefused(
            "the CSR is not signed by the private key that belongs to the public key in it",
            code="proof_of_possession_failed",
        )


def _single_value(attributes: Sequence[der.Attribute], name: str, *oids: x509.ObjectIdentifier) -> asn1.TLV | None:
    """The one value of the one attribute with one of these types (all are SINGLE VALUE); None when there is none."""
    found = [attribute.values.as_list() for attribute in attributes if attribute.type in oids]
    if not found:
        return None
    if len(found) > 1:
        raise CsrRefused(f"the CSR has {len(found)} {name} attributes; send one")
    (values,) = found
    if len(values) != 1:
        raise CsrRefused(f"the {name} attribute of the CSR must have exactly one value")
    return values[0]


def _public_key(request: x509.CertificateSigningRequest) -> CertificatePublicKeyTypes:
    oid = request.public_key_algorithm_oid.dotted_string  # type: ignore[attr-defined]  # its stub lacks it
    try:
        return request.public_key()
    except UnsupportedAlgorithm as error:
        raise CsrRefused(f"keys of the algorithm {oid}, or with its parameters, are not supported") from error
    except Exception as error:
        raise CsrRefused(f"the public key of the CSR (algorithm {oid}) is not a valid key") from error


def _subject(request: x509.CertificateSigningRequest, subject_tlv: asn1.TLV) -> x509.Name:
    check_name(asn1.encode_der(subject_tlv))
    return _or_refuse(lambda: request.subject, "the subject of the CSR cannot be parsed")


def _signature_hash(request: x509.CertificateSigningRequest) -> str | None:
    oid = request.signature_algorithm_oid.dotted_string
    algorithm = _or_refuse(
        lambda: request.signature_hash_algorithm, f"the signature algorithm {oid} of the CSR is not supported"
    )
    return algorithm.name if algorithm else None


def _extensions(
    request: x509.CertificateSigningRequest, extensions_tlv: asn1.TLV
) -> tuple[x509.Extension[x509.ExtensionType], ...]:
    size = len(extensions_tlv.data)
    if size > MAX_EXTENSIONS_BYTES:
        raise CsrRefused(
            f"the CSR asks for extensions of {size} bytes; at most {MAX_EXTENSIONS_BYTES} bytes,"
            f" and {MAX_SAN_ENTRIES} SubjectAltName entries, are possible"
        )
    try:
        extensions = tuple(request.extensions)
    except x509.DuplicateExtension as error:
        raise CsrRefused(f"the CSR asks twice for the extension {error.oid.dotted_string}") from error
    except Exception as error:
        oids = ", ".join(unparsable_extensions(asn1.encode_der(extensions_tlv)))
        raise CsrRefused(f"the CSR asks for extensions that cannot be parsed: {oids or 'the list itself'}") from error
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            check_san(tuple(extension.value))
    return extensions


def _challenge_password(attributes: Sequence[der.Attribute]) -> bytes | None:
    value = _single_value(attributes, "challengePassword", _CHALLENGE_PASSWORD)
    if value is None:
        return None
    if value.tag_bytes not in _STRING_TAGS:
        raise CsrRefused("the challengePassword attribute of the CSR is not a string")
    return bytes(value.data)


def _fingerprint(
    subject_der: bytes, spki_der: bytes, extensions_tlv: asn1.TLV | None, change_tlv: asn1.TLV | None
) -> str:
    """Hex SHA-256 over the parts, each after its length in four bytes; an absent part has the length 0."""
    optional = (asn1.encode_der(part) if part else b"" for part in (extensions_tlv, change_tlv))
    digest = hashlib.sha256()
    for part in (subject_der, spki_der, *optional):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.hexdigest()


def _or_refuse(read: Callable[[], _T], reason: str) -> _T:
    try:
        return read()
    except Exception as error:
        raise CsrRefused(reason) from error
