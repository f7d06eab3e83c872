"""Names and extensions that stand outside the places where cryptography reads them, read by it all the same.

cryptography parses names and extensions only inside certificates and requests. So the DER of a name or of extensions
is put into an otherwise empty request, which cryptography then reads.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat import asn1

from kipuka_core.errors import CsrRefused
from kipuka_core.model.request import ChangeSubjectName
from kipuka_core.wire import der
from kipuka_core.wire.name_limits import check_name, check_san

EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")

_EMPTY_NAME = der.tlv(bytes.fromhex("3000"))
_SAN_OID = x509.SubjectAlternativeName.oid
# Any key and algorithm will do, since nobody looks at them: id-Ed25519 with a key of zeros.
_ED25519 = bytes.fromhex("300506032b6570")
_ANY_ALGORITHM = der.tlv(_ED25519)
_ANY_SPKI = der.tlv(bytes.fromhex("302a") + _ED25519 + bytes.fromhex("032100") + bytes(32))


def decode_change_subject_name(change: asn1.TLV) -> ChangeSubjectName:
    """Read ``SEQUENCE { subject Name OPTIONAL, subjectAlt GeneralNames OPTIONAL }`` (RFC 6402 2.8).

    Raises CsrRefused for anything else, and when both are absent.
    """
    try:
        subject_tlv, san_tlv = _split_change(der.sequence_elements(asn1.encode_der(change)))
        if subject_tlv:
            check_name(asn1.encode_der(subject_tlv))
        carrier = _carrier(subject_tlv or _EMPTY_NAME, [_san_extension(san_tlv)] if san_tlv else [])
        subject = carrier.subject if subject_tlv else None
        san = tuple(carrier.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) if san_tlv else None
    except CsrRefused:
        raise
    except Exception as error:
        raise CsrRefused("the ChangeSubjectName attribute cannot be parsed (RFC 6402 section 2.8)") from error
    if san is not None:
        check_san(san)
    return ChangeSubjectName(subject, san)


def unparsable_extensions(extensions_der: bytes) -> tuple[str, ...]:
    """The OIDs of the extensions in ``Extensions`` (RFC 5280 4.1) that cryptography cannot read, each by itself.

    Empty also when the list itself cannot be read.
    """
    try:
        extensions = der.decode_extensions(extensions_der)
    except ValueError:
        return ()
    return tuple(extension.oid.dotted_string for extension in extensions if not _is_readable(extension))


def _is_readable(extension: der.Extension) -> bool:
    try:
        return len(_carrier(_EMPTY_NAME, [extension]).extensions) == 1
    except Exception:  # noqa: BLE001  # whatever is raised is the answer
        return False


def _split_change(elements: list[asn1.TLV]) -> tuple[asn1.TLV | None, asn1.TLV | None]:
    """Which element is the Name and which the GeneralNames: both are SEQUENCEs, and both may be absent.

    GeneralName has context-specific tags only (RFC 5280 4.2.1.6), a Name holds SETs.
    """
    match elements:
        case [only] if _is_general_names(only):
            return None, only
        case [only]:
            return only, None
        case [subject, san] if not _is_general_names(subject) and _is_general_names(san):
            return subject, san
    raise CsrRefused("the ChangeSubjectName attribute must hold a subject, a subjectAlt or both, in this order")


def _is_general_names(element: asn1.TLV) -> bool:
    return len(element.data) > 0 and element.data[0] & 0xC0 == 0x80


def _san_extension(general_names: asn1.TLV) -> der.Extension:
    return der.Extension(oid=_SAN_OID, critical=False, value=asn1.encode_der(general_names))


def _carrier(subject: asn1.TLV, extensions: list[der.Extension]) -> x509.CertificateSigningRequest:
    attributes = []
    if extensions:
        value = der.tlv(der.encode_extensions(extensions))
        attributes.append(der.Attribute(type=EXTENSION_REQUEST, values=asn1.SetOf([value])))
    info = der.RequestInfo(version=0, subject=subject, spki=_ANY_SPKI, attributes=asn1.SetOf(attributes))
    request = der.Request(info=info, algorithm=_ANY_ALGORITHM, signature=asn1.BitString(b"", 0))
    return x509.load_der_x509_csr(asn1.encode_der(request))
