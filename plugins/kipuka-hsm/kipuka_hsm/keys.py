"""Private keys of cryptography whose ``sign`` is a token's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import Any, NoReturn, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from kipuka_core import ConfigurationError
from kipuka_hsm.messages import MAX_DATA_BYTES, TokenSignature, to_bytes

Buffer = bytes | bytearray | memoryview
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""What stands before the hash in a PKCS#1 v1.5 signature (RFC 8017 9.2, note 1)."""
_CURVES: dict[str, ec.EllipticCurve] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1(),
    "1.3.132.0.34": ec.SECP384R1(),
    "1.3.132.0.35": ec.SECP521R1(),
}
SIGNING_MECHANISMS = (
    frozenset({"RSA_PKCS", "RSA_PKCS_PSS", "ECDSA", "EDDSA"})
    .union(f"{hash_name}_RSA_PKCS{kind}" for hash_name in ("SHA256", "SHA384", "SHA512") for kind in ("", "_PSS"))
    .union(f"ECDSA_{hash_name}" for hash_name in ("SHA256", "SHA384", "SHA512"))
)
"""What is used of PKCS#11, where a token has it; hashing is done outside where it can be."""
_HASHED: dict[Any, Callable[[Buffer], Any]] = {
    hashes.SHA256: hashlib.sha256,
    hashes.SHA384: hashlib.sha384,
    hashes.SHA512: hashlib.sha512,
}
_ED25519_BYTES = 32


Sign = Callable[[TokenSignature], bytes]
"""Has the token sign; called in a worker thread. Raises Unavailable."""


def _kept(*_arguments: object) -> NoReturn:
    raise UnsupportedAlgorithm("a key in a token does not leave it")


class _TokenKey:
    """What all of them share."""

    _public: Any
    _sign: Sign
    _mechanisms: Collection[str]

    def __init__(self, public_key: Any, sign: Sign, mechanisms: Collection[str]) -> None:
        self._public = public_key
        self._sign = sign
        self._mechanisms = mechanisms

    def public_key(self) -> Any:
        """The public half."""
        return self._public

    def private_bytes(self, *arguments: object, **options: object) -> NoReturn:
        """Not possible."""
        _kept(arguments, options)

    def private_numbers(self) -> NoReturn:
        """Not possible."""
        _kept()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def _first_of(self, *names: str) -> str:
        found = next((name for name in names if name in self._mechanisms), None)
        if found is None:
            raise UnsupportedAlgorithm(f"the token has none of the mechanisms {', '.join(names)}")
        return found


class TokenRsaKey(_TokenKey, rsa.RSAPrivateKey):
    """RSA, PKCS#1 v1.5 and PSS."""

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return int(self._public.key_size)

    def decrypt(self, ciphertext: bytes, padding: object) -> NoReturn:  # as the base class has it
        """Not offered: it is a key for signatures."""
        _kept()

    def sign(
        self,
        data: Buffer,
        padding: Any,
        algorithm: utils.Prehashed | hashes.HashAlgorithm | Any,
    ) -> bytes:
        """As cryptography's. Raises UnsupportedAlgorithm for what the token cannot, and Unavailable."""
        hash_name = _hash_name(algorithm)
        token_hash = hash_name.upper()
        if _is_pss(padding):
            _check_mgf(padding, algorithm)
            mechanism = self._first_of("RSA_PKCS_PSS", f"{token_hash}_RSA_PKCS_PSS")
            digested = _digest(data, algorithm) if mechanism == "RSA_PKCS_PSS" else _whole(data, algorithm)
            salt_bytes = _salt_bytes(padding, algorithm, self.key_size)
            return self._sign(TokenSignature(mechanism, digested, token_hash, salt_bytes))
        mechanism = self._first_of("RSA_PKCS", f"{token_hash}_RSA_PKCS")
        if mechanism == "RSA_PKCS":
            return self._sign(TokenSignature(mechanism, _DIGEST_INFO[hash_name] + _digest(data, algorithm)))
        return self._sign(TokenSignature(mechanism, _whole(data, algorithm)))


class TokenEcKey(_TokenKey, ec.EllipticCurvePrivateKey):
    """ECDSA on P-256, P-384 and P-521."""

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        curve: ec.EllipticCurve = self._public.curve
        return curve

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self.curve.key_size

    def exchange(self, algorithm: object, peer_public_key: object) -> NoReturn:
        """Not offered: it is a key for signatures."""
        _kept()

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """As cryptography's: DER. Raises UnsupportedAlgorithm for what the token cannot, and Unavailable."""
        algorithm = getattr(signature_algorithm, "algorithm", None)
        if "ECDSA" in self._mechanisms:
            wanted = TokenSignature("ECDSA", _digest(data, algorithm))
        else:
            mechanism = self._first_of(f"ECDSA_{_hash_name(algorithm).upper()}")
            wanted = TokenSignature(mechanism, _whole(data, algorithm))
        raw = self._sign(wanted)
        half = len(raw) // 2
        return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


class TokenEd25519Key(_TokenKey, ed25519.Ed25519PrivateKey):
    """Ed25519."""

    def private_bytes_raw(self) -> NoReturn:
        """Not possible."""
        _kept()

    def sign(self, data: Buffer) -> bytes:
        """As cryptography's. Raises UnsupportedAlgorithm for a token without EdDSA, and Unavailable."""
        return self._sign(TokenSignature(self._first_of("EDDSA"), _not_too_long(data)))


TokenKey = TokenRsaKey | TokenEcKey | TokenEd25519Key


def token_key(public_key: Any, sign: Sign, mechanisms: Collection[str], where: str) -> TokenKey:
    """The private key to a public key. Raises ConfigurationError for a kind that cannot be used."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return TokenRsaKey(public_key, sign, mechanisms)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return TokenEcKey(public_key, sign, mechanisms)
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return TokenEd25519Key(public_key, sign, mechanisms)
    raise ConfigurationError(where, "is neither an RSA, nor an ECDSA, nor an Ed25519 key")


def public_key_of(facts: dict[str, Any], where: str) -> Any:
    """The public key from what the token shows. Raises ConfigurationError where it shows too little."""
    try:
        found = _public_key(facts)
    except (ValueError, KeyError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(where, f"has a public half that cannot be read: {type(error).__name__}") from None
    if found is None:
        raise ConfigurationError(
            where, "has neither a public key nor a certificate with the same id beside it; write one to the token"
        )
    return found


def _public_key(facts: dict[str, Any]) -> Any:
    value = {name: to_bytes(text) for name in _PUBLIC if (text := facts.get(name))}
    if "modulus" in value and "exponent" in value:
        numbers = (int.from_bytes(value[name], "big") for name in ("exponent", "modulus"))
        return rsa.RSAPublicNumbers(*numbers).public_key()
    if "ec_point" in value:
        if facts["type"] == "EC_EDWARDS":
            return ed25519.Ed25519PublicKey.from_public_bytes(_octets(value["ec_point"], _ED25519_BYTES))
        curve = _CURVES[_dotted(value["ec_parameters"])]
        point = _octets(value["ec_point"], 1 + 2 * ((curve.key_size + 7) // 8))
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    if "certificate" in value:
        return x509.load_der_x509_certificate(value["certificate"]).public_key()
    return None


_PUBLIC = ("modulus", "exponent", "ec_parameters", "ec_point", "certificate")


def _octets(point: bytes, wanted_bytes: int) -> bytes:
    """The point inside its DER OCTET STRING; some tokens leave that out. Its size tells which of both it is.

    Raises ValueError for another size.
    """
    length = bytes((wanted_bytes,)) if wanted_bytes < 0x80 else bytes((0x81, wanted_bytes))
    head = b"\x04" + length
    if len(point) == len(head) + wanted_bytes and point.startswith(head):
        return point[len(head) :]
    if len(point) == wanted_bytes:
        return point
    raise ValueError("the point has not the size of the curve's points")


def _dotted(oid_der: bytes) -> str:
    """A DER OBJECT IDENTIFIER as text; a token that names no curve by OID is not supported."""
    for dotted in _CURVES:
        if oid_der == _OID_DER[dotted]:
            return dotted
    raise ValueError("unknown curve")


_OID_DER = {
    "1.2.840.10045.3.1.7": bytes.fromhex("06082a8648ce3d030107"),
    "1.3.132.0.34": bytes.fromhex("06052b81040022"),
    "1.3.132.0.35": bytes.fromhex("06052b81040023"),
}


def _is_pss(chosen: object) -> bool:
    if isinstance(chosen, padding.PSS):
        return True
    if isinstance(chosen, padding.PKCS1v15):
        return False
    raise UnsupportedAlgorithm("only PKCS#1 v1.5 and PSS are padding for signatures")


def _check_mgf(pss: padding.PSS, algorithm: Any) -> None:
    """A token is told one hash for both; cryptography's own keys can have two."""
    mgf_hash = pss.mgf._algorithm  # noqa: SLF001  # cryptography has no other way to ask
    if mgf_hash.name != _hash_name(algorithm):
        raise UnsupportedAlgorithm("PSS needs the hash of the data in its mask generation function (MGF1) too")


def _salt_bytes(pss: padding.PSS, algorithm: Any, key_bits: int) -> int:
    length = pss._salt_length  # noqa: SLF001  # cryptography has no other way to ask
    digest_bytes = _hash_of(algorithm).digest_size
    if isinstance(length, int):
        return length
    if length is padding.PSS.DIGEST_LENGTH:
        return digest_bytes
    if length is padding.PSS.MAX_LENGTH:
        return (key_bits + 6) // 8 - digest_bytes - 2
    raise UnsupportedAlgorithm("a signature needs a salt length")


def _hash_of(algorithm: Any) -> hashes.HashAlgorithm:
    found: Any = algorithm._algorithm if isinstance(algorithm, utils.Prehashed) else algorithm  # noqa: SLF001
    if type(found) not in _HASHED:
        raise _unknown_hash()
    hash_algorithm: hashes.HashAlgorithm = found
    return hash_algorithm


def _unknown_hash() -> UnsupportedAlgorithm:
    return UnsupportedAlgorithm("signatures are made with SHA-256, SHA-384 and SHA-512 only")


def _hash_name(algorithm: Any) -> str:
    return _hash_of(algorithm).name


def _digest(data: Buffer, algorithm: Any) -> bytes:
    hashed = _HASHED.get(type(algorithm))
    if hashed is not None:
        digest: bytes = hashed(data).digest()
        return digest
    if isinstance(algorithm, utils.Prehashed):
        wanted_bytes = _hash_of(algorithm).digest_size
        if len(data) != wanted_bytes:
            raise UnsupportedAlgorithm(f"{len(data)} bytes are no hash of {_hash_name(algorithm)}, of {wanted_bytes}")
        return bytes(data)
    raise _unknown_hash()


def _whole(data: Buffer, algorithm: Any) -> bytes:
    """For mechanisms that hash by themselves."""
    if isinstance(algorithm, utils.Prehashed):
        raise UnsupportedAlgorithm("the token hashes by itself, so that it cannot sign a hash")
    return _not_too_long(data)


def _not_too_long(data: Buffer) -> bytes:
    if len(data) > MAX_DATA_BYTES:
        raise UnsupportedAlgorithm(
            f"{len(data)} bytes are too many: where the token hashes by itself, {MAX_DATA_BYTES} are the most at once"
        )
    return bytes(data)
