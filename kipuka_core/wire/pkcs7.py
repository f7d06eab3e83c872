"""Certificates in a degenerate PKCS#7 SignedData (RFC 5652 5.1; RFC 7030 4.1.3 and 4.2.3)."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7


def certs_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """The DER of a certs-only SignedData, each certificate once. Their order is that of a DER SET, not a chain's.

    Raises ValueError for no certificates at all.
    """
    if not certificates:
        raise ValueError("a certs-only PKCS#7 holds at least one certificate")
    return pkcs7.serialize_certificates(list(dict.fromkeys(certificates)), Encoding.DER)
