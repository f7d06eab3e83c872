"""What a signer process and its owner say to each other: one JSON object a datagram, bytes in base64.

Signatures alone are asked for and given in binary: JSON would be a good part of what a fast token takes for one.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from enum import StrEnum
from typing import Any, NamedTuple

MAX_BYTES = 160_000
"""Below the smallest send buffer that Linux gives a socket."""
MAX_DATA_BYTES = MAX_BYTES - 1024
"""What is signed at once; a signature's request takes less than the difference for all else."""


class Failure(StrEnum):
    """What went wrong in the process, as far as its owner has to tell apart."""

    LOST = "lost"
    """The session, the token or the key is gone: open everything again."""
    ABSENT = "absent"
    """No token or no key matches now."""
    PIN = "pin"
    """The PIN is wrong, locked or expired: do not try again by yourself."""
    BUSY = "busy"
    """The token has no further session."""
    REFUSED = "refused"
    """The token does not do this; asking again changes nothing."""
    UNUSABLE = "unusable"
    """The library cannot be loaded, no token or key matches, …: somebody has to change something."""


_SIGN, _SIGNATURE = 1, 2
"""First bytes; JSON begins with a brace."""
_SIGN_HEAD = struct.Struct("!BHHBB")


class SignRequest(NamedTuple):
    """The key by its number, the names of the mechanism and of the hash of PSS (empty without PSS), the data."""

    key: int
    mechanism: str
    data: bytes
    pss_hash: str = ""
    salt_bytes: int = 0


def encode_sign(wanted: SignRequest) -> bytes:
    """The request as a datagram. Raises ValueError for data that is too long for one, or numbers that are."""
    if len(wanted.data) > MAX_DATA_BYTES:
        raise ValueError(f"{len(wanted.data)} bytes are too many to be signed at once; {MAX_DATA_BYTES} are possible")
    mechanism, pss_hash = wanted.mechanism.encode(), wanted.pss_hash.encode()
    try:
        head = _SIGN_HEAD.pack(_SIGN, wanted.key, wanted.salt_bytes, len(mechanism), len(pss_hash))
    except struct.error:
        raise ValueError(f"key {wanted.key} or its {wanted.salt_bytes} bytes of salt are out of range") from None
    return head + mechanism + pss_hash + wanted.data


def decode_sign(datagram: bytes) -> SignRequest | None:
    """The request, or None for another one. Raises ValueError, IndexError."""
    if datagram[0] != _SIGN:
        return None
    _, key, salt_bytes, mechanism_length, pss_length = _SIGN_HEAD.unpack_from(datagram)
    pss_at = _SIGN_HEAD.size + mechanism_length
    data_at = pss_at + pss_length
    mechanism, pss_hash = datagram[_SIGN_HEAD.size : pss_at].decode(), datagram[pss_at:data_at].decode()
    return SignRequest(key, mechanism, datagram[data_at:], pss_hash, salt_bytes)


def encode_signature(signature: bytes) -> bytes:
    """The answer as a datagram."""
    return bytes((_SIGNATURE,)) + signature


def decode_signature(datagram: bytes) -> bytes | None:
    """The signature, or None for another answer."""
    return datagram[1:] if datagram[0] == _SIGNATURE else None


def encode(message: dict[str, Any]) -> bytes:
    """A message as a datagram."""
    return json.dumps(message, default=_bytes_as_text, separators=(",", ":")).encode()


def decode(datagram: bytes) -> dict[str, Any]:
    """A message from a datagram. Raises ValueError."""
    message = json.loads(datagram)
    if not isinstance(message, dict):
        raise ValueError("not an object")  # noqa: TRY004  # to its reader all of this is the same
    return message


def to_bytes(text: str) -> bytes:
    """A value that was bytes."""
    return b64decode(text, validate=True)


def _bytes_as_text(value: object) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(type(value).__name__)
