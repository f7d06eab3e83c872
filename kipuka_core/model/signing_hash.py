"""The hash that belongs to a key that signs certificates."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)

SigningHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


def signing_hash(key: CertificateIssuerPrivateKeyTypes | CertificatePublicKeyTypes) -> SigningHash | None:
    """The hash as strong as the key, either half of it; None for EdDSA and ML-DSA, which bring their own."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return hashes.SHA256()
    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return None
    if key.curve.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if key.curve.key_size <= 384 else hashes.SHA512()
