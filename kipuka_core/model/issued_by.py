"""Who signed a certificate."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


def issued_by(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether the names fit and the signature is right; False also for what cannot be verified here."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
