"""Signatures of an ACME account (RFC 8555 6.2)."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

AccountPrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_LEAST_RSA_BITS = 2048


class AccountKey:
    """The key that an account is known by. Raises ValueError for kinds that ACME CAs do not take."""

    def __init__(self, key: AccountPrivateKey) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._algorithm = _algorithm(key)
        self._jwk = RSAKey.import_key(pem) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(pem)
        self._public = self._jwk.as_dict(private=False)
        self.thumbprint = self._jwk.thumbprint()
        """base64url of RFC 7638's SHA-256; the second half of every key authorization (RFC 8555 8.1)."""

    def __repr__(self) -> str:
        return f"<account key {self.thumbprint}>"

    def sign(self, url: str, payload: bytes, *, nonce: str, kid: str | None) -> bytes:
        """The body of a POST. ``kid`` is the account's URL; None: by the key itself, as newAccount wants it."""
        header: dict[str, Any] = {"alg": self._algorithm, "nonce": nonce, "url": url}
        header |= {"jwk": self._public} if kid is None else {"kid": kid}
        return json.dumps(_flattened(header, payload, self._jwk)).encode()

    def bound(self, url: str, kid: str, hmac_key: bytes) -> dict[str, Any]:
        """The ``externalAccountBinding`` of a newAccount request to ``url`` (RFC 8555 7.3.4)."""
        header = {"alg": "HS256", "kid": kid, "url": url}
        return _flattened(header, json.dumps(self._public).encode(), OctKey.import_key(hmac_key))


def load_account_key(pem: bytes) -> AccountKey:
    """A private key from PEM. Raises ValueError, with nothing of the content, for everything else."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise ValueError("is encrypted; an account key is kept without a password") from None
    except Exception:  # noqa: BLE001  # whatever it is called, its text may hold some of the file
        raise ValueError("does not hold a PEM private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("holds a key that is neither EC P-256, P-384 nor RSA")  # noqa: TRY004  # a file, not a bug
    return AccountKey(key)


def new_account_key_pem() -> bytes:
    """A fresh key, EC P-256, which every ACME CA takes (RFC 8555 6.2)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _algorithm(key: AccountPrivateKey) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise ValueError(f"holds an RSA key of fewer than {_LEAST_RSA_BITS} bits")
        return "RS256"
    algorithms = {"secp256r1": "ES256", "secp384r1": "ES384"}
    if key.curve.name not in algorithms:
        raise ValueError("holds a key that is neither EC P-256, P-384 nor RSA")
    return algorithms[key.curve.name]


def _flattened(header: dict[str, Any], payload: bytes, key: ECKey | RSAKey | OctKey) -> dict[str, Any]:
    # The header fields of ACME (nonce, url) are not JWS's own, and all of them are protected.
    registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    return dict(jws.serialize_json({"protected": header}, payload, key, registry=registry))
