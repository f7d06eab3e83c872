"""Signatures of CRLs and OCSP responses: which algorithms count, and whether a key made them."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.ocsp import OCSPResponse
from cryptography.x509.oid import SignatureAlgorithmOID

_STRONG = (hashes.SHA256, hashes.SHA384, hashes.SHA512, hashes.SHA3_256, hashes.SHA3_384, hashes.SHA3_512)
_WITHOUT_HASH = (
    ed25519.Ed25519PublicKey,
    ed448.Ed448PublicKey,
    mldsa.MLDSA44PublicKey,
    mldsa.MLDSA65PublicKey,
    mldsa.MLDSA87PublicKey,
)


def weak_hash(algorithm: hashes.HashAlgorithm | None) -> str | None:
    """The name of a hash that is too weak to sign with (SHA-1, MD5); None when it is strong or there is none."""
    return None if algorithm is None or isinstance(algorithm, _STRONG) else algorithm.name


def signed_response(response: OCSPResponse, key: CertificatePublicKeyTypes) -> bool:
    """Whether ``key`` signed an OCSP response, by an algorithm that counts."""
    try:
        hash_algorithm = response.signature_hash_algorithm
        if weak_hash(hash_algorithm) is not None:
            return False
        return _verify(key, response, hash_algorithm)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False


def _verify(key: CertificatePublicKeyTypes, response: OCSPResponse, algorithm: hashes.HashAlgorithm | None) -> bool:
    """Raises InvalidSignature and, for odd parameters, UnsupportedAlgorithm or ValueError."""
    signature, signed = response.signature, response.tbs_response_bytes
    if isinstance(key, _WITHOUT_HASH):
        key.verify(signature, signed)
        return True
    if algorithm is None:
        return False
    if isinstance(key, rsa.RSAPublicKey):
        is_pss = response.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
        # RFC 4055 3.1 recommends MGF1 with the same hash; a response with another one does not verify.
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
        key.verify(signature, signed, pss if is_pss else padding.PKCS1v15(), algorithm)
        return True
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(algorithm))
        return True
    return False
