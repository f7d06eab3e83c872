"""OCSP as a responder speaks it (RFC 6960 4, RFC 5019, nonces by RFC 9654).

cryptography reads and writes messages about a single certificate; these are about any number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import OCSPExtensionOID

from kipuka_core.wire.der import Extension, decode_extensions, element, encode_extensions, sequence_elements, tlv, whole

MAX_CERTIFICATES = 32
"""How many certificates one request may be about."""
_LONGEST_NONCE, _LONGEST_SERIAL_OCTETS = 128, 32

_INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _ENUMERATED, _SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x0A, 0x30
_GENERALIZED_TIME = 0x18
_EXPLICIT_0, _EXPLICIT_1, _EXPLICIT_2 = 0xA0, 0xA1, 0xA2
_GOOD, _REVOKED, _UNKNOWN = b"\x80\x00", 0xA1, b"\x82\x00"  # CertStatus, with implicit tags
_V1 = b"\x02\x01\x00"
_BASIC = asn1.encode_der(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.1"))


class OcspMalformed(ValueError):
    """The bytes are no OCSP request that could be answered."""


class OcspError(IntEnum):
    """OCSPResponseStatus without ``successful`` (RFC 6960 4.2.1)."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6


@dataclass(frozen=True, slots=True)
class CertId:
    """Whose status is asked for. ``der`` is as the client wrote it, because it looks for the same in the answer."""

    der: bytes
    hash_oid: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int

    @property
    def issuer(self) -> tuple[str, bytes, bytes]:
        """What names the issuer."""
        return self.hash_oid, self.issuer_name_hash, self.issuer_key_hash


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """What a client wants to know."""

    cert_ids: tuple[CertId, ...]
    nonce: bytes | None
    """The octets themselves, or None for a request without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleStatus:
    """What is known of one certificate: with neither ``is_good`` nor ``revoked_at`` nothing is."""

    cert_id: CertId
    is_good: bool = False
    revoked_at: datetime | None = None
    reason: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseData:
    """What a responder signs (4.2.1)."""

    responder_key_hash: bytes
    """SHA-1 of the responder's public key, without tag, length and unused bits."""
    statuses: Sequence[SingleStatus]
    this_update: datetime
    next_update: datetime
    nonce: bytes | None = field(default=None)

    def encode(self) -> bytes:
        """The DER."""
        extensions = b""
        if self.nonce is not None:
            value = element(_OCTET_STRING, self.nonce)
            nonce = Extension(oid=OCSPExtensionOID.NONCE, critical=False, value=value)
            extensions = element(_EXPLICIT_1, encode_extensions([nonce]))
        return element(
            _SEQUENCE,
            element(_EXPLICIT_2, element(_OCTET_STRING, self.responder_key_hash)),
            _time(self.this_update),
            element(_SEQUENCE, *map(self._single, self.statuses)),
            extensions,
        )

    def _single(self, status: SingleStatus) -> bytes:
        return element(
            _SEQUENCE,
            status.cert_id.der,
            _cert_status(status),
            _time(self.this_update),
            element(_EXPLICIT_0, _time(self.next_update)),
        )


def read_request(der: bytes) -> OcspRequest:
    """Read a request; its signature, if it has one, is not looked at: everybody may ask.

    Raises OcspMalformed.
    """
    try:
        return _ocsp_request(der)
    except OcspMalformed:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise OcspMalformed("not the DER of an OCSP request") from error


def _ocsp_request(der: bytes) -> OcspRequest:
    parts = sequence_elements(der)
    if not 1 <= len(parts) <= 2:
        raise OcspMalformed("an OCSP request has one part, and perhaps a signature")
    return _tbs_request(whole(parts[0]))


def _tbs_request(der: bytes) -> OcspRequest:
    parts = sequence_elements(der)
    tags = [part.tag_bytes[0] for part in parts]
    # version [0] DEFAULT v1, requestorName [1] OPTIONAL, requestList, requestExtensions [2] OPTIONAL
    order = [tag for tag in (_EXPLICIT_0, _EXPLICIT_1, _SEQUENCE, _EXPLICIT_2) if tag in tags]
    if tags != order or _SEQUENCE not in tags:
        raise OcspMalformed("no TBSRequest")
    by_tag = dict(zip(tags, parts, strict=True))
    if _EXPLICIT_0 in by_tag and bytes(by_tag[_EXPLICIT_0].data) != _V1:
        raise OcspMalformed("an OCSP version that is not 1")
    requests = sequence_elements(whole(by_tag[_SEQUENCE]))
    if not 1 <= len(requests) <= MAX_CERTIFICATES:
        raise OcspMalformed(f"an OCSP request is about 1 to {MAX_CERTIFICATES} certificates")
    nonce = _nonce(decode_extensions(bytes(by_tag[_EXPLICIT_2].data))) if _EXPLICIT_2 in by_tag else None
    return OcspRequest(tuple(_request(whole(request)) for request in requests), nonce)


def _request(der: bytes) -> CertId:
    cert_id, *further = sequence_elements(der)
    if further:
        if len(further) > 1 or further[0].tag_bytes[0] != _EXPLICIT_0:
            raise OcspMalformed("no Request")
        _refuse_critical(decode_extensions(bytes(further[0].data)))
    return _cert_id(whole(cert_id))


def _cert_id(der: bytes) -> CertId:
    algorithm, name_hash, key_hash, serial = sequence_elements(der)
    tags = [part.tag_bytes[0] for part in (algorithm, name_hash, key_hash, serial)]
    if tags != [_SEQUENCE, _OCTET_STRING, _OCTET_STRING, _INTEGER]:
        raise OcspMalformed("no CertID")
    if len(serial.data) > _LONGEST_SERIAL_OCTETS:
        raise OcspMalformed("a serial number that no certificate has")
    oid = asn1.decode_der(x509.ObjectIdentifier, whole(sequence_elements(whole(algorithm))[0]))
    number = asn1.decode_der(int, whole(serial))
    return CertId(der, oid.dotted_string, bytes(name_hash.data), bytes(key_hash.data), number)


def _nonce(extensions: Sequence[Extension]) -> bytes | None:
    _refuse_critical([each for each in extensions if each.oid != OCSPExtensionOID.NONCE])
    values = [each.value for each in extensions if each.oid == OCSPExtensionOID.NONCE]
    if not values:
        return None
    nonce = tlv(values[0])
    # RFC 9654 2.1: at most 128 octets, and never none.
    if len(values) > 1 or nonce.tag_bytes[0] != _OCTET_STRING or not 1 <= len(nonce.data) <= _LONGEST_NONCE:
        raise OcspMalformed(f"a nonce has 1 to {_LONGEST_NONCE} octets")
    return bytes(nonce.data)


def _refuse_critical(extensions: Sequence[Extension]) -> None:
    """RFC 6960 4.4: what is critical and unknown must not be passed over."""
    for extension in extensions:
        if extension.critical:
            raise OcspMalformed(f"the critical extension {extension.oid.dotted_string} is unknown here")


def basic_response(data_der: bytes, algorithm_der: bytes, signature: bytes, responder: x509.Certificate) -> bytes:
    """The whole answer: signed data, its signature, the certificate of who signed it."""
    basic = element(
        _SEQUENCE,
        data_der,
        algorithm_der,
        element(_BIT_STRING, b"\x00", signature),
        element(_EXPLICIT_0, element(_SEQUENCE, responder.public_bytes(Encoding.DER))),
    )
    response_bytes = element(_SEQUENCE, _BASIC, element(_OCTET_STRING, basic))
    return element(_SEQUENCE, element(_ENUMERATED, b"\x00"), element(_EXPLICIT_0, response_bytes))


def error_response(error: OcspError) -> bytes:
    """An answer that says nothing of a certificate; these are not signed (RFC 6960 2.3)."""
    return element(_SEQUENCE, element(_ENUMERATED, bytes((error,))))


def _cert_status(status: SingleStatus) -> bytes:
    if status.revoked_at is not None:
        reason = b""
        if status.reason:
            reason = element(_EXPLICIT_0, element(_ENUMERATED, bytes((status.reason,))))
        return element(_REVOKED, _time(status.revoked_at), reason)
    return _GOOD if status.is_good else _UNKNOWN


def _time(moment: datetime) -> bytes:
    """GeneralizedTime in whole seconds (RFC 6960 4.2.2.1, RFC 5280 4.1.2.5.2)."""
    return element(_GENERALIZED_TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())
