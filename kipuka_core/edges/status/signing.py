"""Signatures of CA keys and responder keys over structures that kipuka writes itself."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

SigningHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


def sign(key: CertificateIssuerPrivateKeyTypes, hash_algorithm: SigningHash | None, data: bytes) -> bytes:
    """The signature over ``data`` by what :func:`kipuka_core.wire.signature_algorithms.signature_algorithm` names.

    A token's key may take its time: this is for worker threads. Raises what the key raises.
    """
    if isinstance(key, rsa.RSAPrivateKey) and hash_algorithm is not None:
        return key.sign(data, padding.PKCS1v15(), hash_algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey) and hash_algorithm is not None:
        return key.sign(data, ec.ECDSA(hash_algorithm))
    signature: bytes = key.sign(data)  # type: ignore[call-arg]  # EdDSA and ML-DSA take nothing else
    return signature


def signing_hash(key: CertificateIssuerPrivateKeyTypes) -> SigningHash | None:
    """The hash as strong as the key; None where the algorithm has none to choose."""
    if isinstance(key, rsa.RSAPrivateKey):
        return hashes.SHA256()
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    if key.curve.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if key.curve.key_size <= 384 else hashes.SHA512()


def is_crl_of(der: bytes, issuer: x509.Certificate) -> bool:
    """Whether these bytes are a CRL of this issuer, by name and signature. Slow for long CRLs."""
    try:
        crl = x509.load_der_x509_crl(der)
        return crl.issuer == issuer.subject and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
