"""Keys that commands make: for CAs and for servers."""

from __future__ import annotations

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kipuka_core.model.key_type import KeyType, parse_key_type

OwnKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""What every TLS client accepts."""

_CURVES: dict[KeyType, ec.EllipticCurve] = {
    KeyType.ECDSA256: ec.SECP256R1(),
    KeyType.ECDSA384: ec.SECP384R1(),
    KeyType.ECDSA521: ec.SECP521R1(),
}
_RSA = (KeyType.RSA2048, KeyType.RSA3072, KeyType.RSA4096)
_HASHES: dict[int, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {384: hashes.SHA384(), 521: hashes.SHA512()}
KEY_TYPES: tuple[KeyType, ...] = (*_CURVES, *_RSA)


def key_type_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> KeyType | None:
    """Callback of ``--key-type``."""
    if value is None:
        return None
    try:
        key_type = parse_key_type(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if key_type not in KEY_TYPES:
        raise click.BadParameter(f"the key can be one of {', '.join(KEY_TYPES)}")
    return key_type


def new_key(key_type: KeyType) -> OwnKey:
    """A fresh key of one of :data:`KEY_TYPES`."""
    if key_type in _CURVES:
        return ec.generate_private_key(_CURVES[key_type])
    return rsa.generate_private_key(65537, int(key_type.removeprefix("rsa")))


def hash_of(key: OwnKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The hash that belongs to a signature by this key."""
    return _HASHES.get(key.key_size, hashes.SHA256())


def key_pem(key: OwnKey) -> bytes:
    """PKCS#8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """One certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)
