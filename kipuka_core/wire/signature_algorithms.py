"""AlgorithmIdentifiers of signatures (RFC 5280 4.1.1.2), for the structures that cryptography does not build."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from kipuka_core.wire.der import element

_SEQUENCE = 0x30
_NULL = b"\x05\x00"
_RSA = {
    "sha256": SignatureAlgorithmOID.RSA_WITH_SHA256,
    "sha384": SignatureAlgorithmOID.RSA_WITH_SHA384,
    "sha512": SignatureAlgorithmOID.RSA_WITH_SHA512,
}
_ECDSA = {
    "sha256": SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    "sha384": SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    "sha512": SignatureAlgorithmOID.ECDSA_WITH_SHA512,
}
_WITHOUT_HASH: tuple[tuple[type, x509.ObjectIdentifier], ...] = (
    (ed25519.Ed25519PublicKey, SignatureAlgorithmOID.ED25519),
    (ed448.Ed448PublicKey, SignatureAlgorithmOID.ED448),
    (mldsa.MLDSA44PublicKey, SignatureAlgorithmOID.ML_DSA_44),
    (mldsa.MLDSA65PublicKey, SignatureAlgorithmOID.ML_DSA_65),
    (mldsa.MLDSA87PublicKey, SignatureAlgorithmOID.ML_DSA_87),
)


def signature_algorithm(public_key: object, hash_name: str | None) -> bytes:
    """The DER of the algorithm that a key of this kind signs with: PKCS#1 v1.5 for RSA.

    The parameters of RSA are NULL (RFC 4055 5), the others have none (RFC 5758 3.2, RFC 8410 3).

    Raises ValueError for a kind of key or a hash that kipuka does not sign with.
    """
    if isinstance(public_key, rsa.RSAPublicKey) and hash_name in _RSA:
        return element(_SEQUENCE, asn1.encode_der(_RSA[hash_name]), _NULL)
    if isinstance(public_key, ec.EllipticCurvePublicKey) and hash_name in _ECDSA:
        return element(_SEQUENCE, asn1.encode_der(_ECDSA[hash_name]))
    for kind, oid in _WITHOUT_HASH:
        if isinstance(public_key, kind) and hash_name is None:
            return element(_SEQUENCE, asn1.encode_der(oid))
    raise ValueError(f"no signature algorithm for {type(public_key).__name__} with {hash_name or 'no hash'}")
