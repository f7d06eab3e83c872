"""Whether a key signs what its public half verifies."""

from __future__ import annotations

import secrets
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from kipuka_core import signing_hash
from kipuka_hsm.keys import SIGNING_MECHANISMS, TokenKey, TokenRsaKey
from kipuka_hsm.messages import TokenSignature


def arguments_for(key: TokenKey) -> tuple[Any, ...]:
    """What ``sign`` and ``verify`` of a key of this kind take after the data."""
    if isinstance(key, TokenRsaKey):
        return (padding.PKCS1v15(), hashes.SHA256())
    hash_algorithm = signing_hash(key.public_key())
    return () if hash_algorithm is None else (ec.ECDSA(hash_algorithm),)


def probe(key: TokenKey) -> bool:
    """Sign something and verify it. Blocks. Raises Unavailable, TokenFailed, UnsupportedAlgorithm."""
    data = secrets.token_bytes(32)
    arguments = arguments_for(key)
    signature = key.sign(data, *arguments)
    try:
        key.public_key().verify(signature, data, *arguments)
    except InvalidSignature:
        return False
    return True


def wanted_by(key: TokenKey) -> TokenSignature:
    """What the key asks of its token for a signature of some certificate."""
    asked: list[TokenSignature] = []

    def remember(wanted: TokenSignature) -> bytes:
        asked.append(wanted)
        return bytes(64)

    type(key)(key.public_key(), remember, SIGNING_MECHANISMS).sign(secrets.token_bytes(600), *arguments_for(key))
    return asked[0]
