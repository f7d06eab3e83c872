"""Signatures of CA keys and responder keys over structures that kipuka writes itself."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core.model.signing_hash import SigningHash
from kipuka_core.wire.der import sequence_elements, whole


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


def is_crl_of(der: bytes, issuer: x509.Certificate, hash_algorithm: SigningHash | None) -> bool:
    """Whether these bytes are a CRL of this issuer, by name and signature.

    Not by cryptography's ``is_signature_valid``, which encodes all entries anew: 0.3 s for 100 000, and nothing else
    runs meanwhile.
    """
    try:
        tbs, _, signature = sequence_elements(der)
        _verify(issuer.public_key(), hash_algorithm, bytes(signature.data)[1:], whole(tbs))
        return x509.load_der_x509_crl(der).issuer == issuer.subject
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False


def _verify(public_key: Any, hash_algorithm: SigningHash | None, signature: bytes, data: bytes) -> None:
    """The counterpart of :func:`sign`. Raises InvalidSignature."""
    if isinstance(public_key, rsa.RSAPublicKey) and hash_algorithm is not None:
        public_key.verify(signature, data, padding.PKCS1v15(), hash_algorithm)
    elif isinstance(public_key, ec.EllipticCurvePublicKey) and hash_algorithm is not None:
        public_key.verify(signature, data, ec.ECDSA(hash_algorithm))
    else:
        public_key.verify(signature, data)
