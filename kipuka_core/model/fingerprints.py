"""What a certificate is found by in the store: its issuer's key and its serial number."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@lru_cache(maxsize=256)
def public_key_id(certificate: x509.Certificate) -> str:
    """Hex SHA-256 of a certificate's SubjectPublicKeyInfo (DER): the same for every certificate of one key.

    Raises cryptography's UnsupportedAlgorithm for a key of a kind that is unknown to it.
    """
    spki_der = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki_der).hexdigest()


def issuer_key_id(certificate_of_issuer: x509.Certificate) -> str:
    """The ``issuer_key_id`` of what this issuer signs; it survives a renewed CA certificate around the same key.

    Raises as :func:`public_key_id` does.
    """
    return public_key_id(certificate_of_issuer)


def serial_hex(certificate: x509.Certificate) -> str:
    """The serial number in lower-case hex without leading zeros, as the store and the admin API write it."""
    return f"{certificate.serial_number:x}"
