"""Key types as operators write them and as keys are (``rsa2048``, ``ecdsa256``, ``ed25519``, ``ml-dsa-65``)."""

from __future__ import annotations

import re
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


class KeyType(StrEnum):
    """A key algorithm together with its size or curve. An RSA type means exactly that number of bits."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ECDSA256 = "ecdsa256"
    ECDSA384 = "ecdsa384"
    ECDSA521 = "ecdsa521"
    ED25519 = "ed25519"
    ED448 = "ed448"
    ML_DSA_44 = "ml-dsa-44"
    ML_DSA_65 = "ml-dsa-65"
    ML_DSA_87 = "ml-dsa-87"

    @property
    def family(self) -> str:
        """``rsa``, ``ec``, ``eddsa`` or ``ml-dsa``."""
        return _FAMILIES[self]


_FAMILIES: dict[KeyType, str] = {
    KeyType.RSA2048: "rsa",
    KeyType.RSA3072: "rsa",
    KeyType.RSA4096: "rsa",
    KeyType.ECDSA256: "ec",
    KeyType.ECDSA384: "ec",
    KeyType.ECDSA521: "ec",
    KeyType.ED25519: "eddsa",
    KeyType.ED448: "eddsa",
    KeyType.ML_DSA_44: "ml-dsa",
    KeyType.ML_DSA_65: "ml-dsa",
    KeyType.ML_DSA_87: "ml-dsa",
}

# Spellings after lower-casing and dropping punctuation; the canonical spelling of each type is added below.
_SPELLINGS: dict[str, KeyType] = {
    spelling: key_type
    for key_type, spellings in {
        KeyType.ECDSA256: ("ecdsap256", "ecp256", "p256", "secp256r1", "prime256v1", "ec256", "ecdsasecp256r1"),
        KeyType.ECDSA384: ("ecdsap384", "ecp384", "p384", "secp384r1", "ec384", "ecdsasecp384r1"),
        KeyType.ECDSA521: ("ecdsap521", "ecp521", "p521", "secp521r1", "ec521", "ecdsasecp521r1"),
    }.items()
    for spelling in spellings
}
_SPELLINGS |= {re.sub(r"[^a-z0-9]", "", key_type.value): key_type for key_type in KeyType}

_CURVES = {"secp256r1": KeyType.ECDSA256, "secp384r1": KeyType.ECDSA384, "secp521r1": KeyType.ECDSA521}
_BY_CLASS: tuple[tuple[type, KeyType], ...] = (
    (ed25519.Ed25519PublicKey, KeyType.ED25519),
    (ed448.Ed448PublicKey, KeyType.ED448),
    (mldsa.MLDSA44PublicKey, KeyType.ML_DSA_44),
    (mldsa.MLDSA65PublicKey, KeyType.ML_DSA_65),
    (mldsa.MLDSA87PublicKey, KeyType.ML_DSA_87),
)
_RSA_BITS = {2048: KeyType.RSA2048, 3072: KeyType.RSA3072, 4096: KeyType.RSA4096}


def parse_key_type(text: str) -> KeyType:
    """Read a key type without regard to case and punctuation.

    Raises ValueError, with the known names, for anything else.
    """
    try:
        return _SPELLINGS[re.sub(r"[^a-z0-9]", "", text.lower())]
    except KeyError:
        known = ", ".join(KeyType)
        raise ValueError(f"unknown key type {text!r}; known are {known}") from None


def key_type_of(public_key: PublicKeyTypes) -> KeyType | None:
    """The type of a key, or None for one that has no name here (an RSA-1024 key, an unknown curve)."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _CURVES.get(public_key.curve.name)
    if isinstance(public_key, rsa.RSAPublicKey):
        return _RSA_BITS.get(public_key.key_size)
    return next((key_type for kind, key_type in _BY_CLASS if isinstance(public_key, kind)), None)


def describe_key(public_key: PublicKeyTypes) -> str:
    """What a person calls this key, for error messages (``RSA with 1024 bits``, ``EC on secp256k1``)."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA with {public_key.key_size} bits"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"EC on {public_key.curve.name}"
    return type(public_key).__name__.removesuffix("PublicKey").lstrip("_")
