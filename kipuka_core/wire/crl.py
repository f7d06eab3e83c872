"""Writing CRLs (RFC 5280 5).

By hand, because an entry is encoded once and serves in every CRL until it is dropped. cryptography's builder copies its
list with every entry that is added, and holds the interpreter for as long as it encodes all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat import asn1

from kipuka_core.wire.der import Extension, element, encode_extensions

_BIT_STRING, _OCTET_STRING, _ENUMERATED, _SEQUENCE, _EXTENSIONS = 0x03, 0x04, 0x0A, 0x30, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION_2 = b"\x02\x01\x01"
_REASON = asn1.encode_der(x509.CRLReason.oid)
_FIRST_GENERALIZED_YEAR = 2050


def crl_entry(serial: int, revoked_at: datetime, reason: int | None) -> bytes:
    """One of ``revokedCertificates`` (RFC 5280 5.1.2.6).

    ``unspecified`` is told by the absence of a reason (5.3.1).
    """
    what = asn1.encode_der(serial) + _time(revoked_at)
    if not reason:
        return element(_SEQUENCE, what)
    value = element(_OCTET_STRING, element(_ENUMERATED, bytes((reason,))))
    return element(_SEQUENCE, what, element(_SEQUENCE, element(_SEQUENCE, _REASON, value)))


def tbs_cert_list(
    *,
    issuer: x509.Name,
    authority_key_id: x509.AuthorityKeyIdentifier,
    algorithm_der: bytes,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries: Iterable[bytes],
) -> bytes:
    """What the CA signs: a complete CRL for everything it has issued.

    Such a CRL needs no issuing distribution point (5.2.5: it says what of a CA a CRL is *not* about). Neither extension
    is critical (5.2.1, 5.2.3).
    """
    extensions = [
        Extension(oid=x509.AuthorityKeyIdentifier.oid, critical=False, value=authority_key_id.public_bytes()),
        Extension(oid=x509.CRLNumber.oid, critical=False, value=x509.CRLNumber(number).public_bytes()),
    ]
    revoked = b"".join(entries)
    return element(
        _SEQUENCE,
        _VERSION_2,
        algorithm_der,
        issuer.public_bytes(),
        _time(this_update),
        _time(next_update),
        element(_SEQUENCE, revoked) if revoked else b"",  # 5.1.2.6: absent when nothing is revoked
        element(_EXTENSIONS, encode_extensions(extensions)),
    )


def certificate_list(tbs_der: bytes, algorithm_der: bytes, signature: bytes) -> bytes:
    """The CRL, from what was signed and its signature (5.1.1)."""
    return element(_SEQUENCE, tbs_der, algorithm_der, element(_BIT_STRING, b"\x00", signature))


def _time(moment: datetime) -> bytes:
    """UTCTime through 2049, GeneralizedTime afterwards (5.1.2.4), in whole seconds."""
    utc = moment.astimezone(UTC)
    if utc.year < _FIRST_GENERALIZED_YEAR:
        return element(_UTC_TIME, utc.strftime("%y%m%d%H%M%SZ").encode())
    return element(_GENERALIZED_TIME, utc.strftime("%Y%m%d%H%M%SZ").encode())
