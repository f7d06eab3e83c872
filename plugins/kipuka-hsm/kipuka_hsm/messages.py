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
MAX_SIGN_ANSWER_BYTES = 16_384
"""A signature, or the line that says why there is none; small, for memory is set aside for each."""


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
_SIGN_NUMBERS = struct.Struct("!HHB")
_HEAD_AT = 2


class TokenSignature(NamedTuple):
    """A signature that is wanted: a mechanism by its name in PKCS#11, without ``CKM_``, and what it is given."""

    mechanism: str
    data: bytes
    pss_hash: str = ""
    """Empty: no PSS."""
    salt_bytes: int = 0


def sign_head(key_number: int, wanted: TokenSignature) -> bytes:
    """How the requests begin that differ in their data only, which follows. Raises ValueError for numbers too large."""
    mechanism, pss_hash = wanted.mechanism.encode(), wanted.pss_hash.encode()
    try:
        head = _SIGN_NUMBERS.pack(key_number, wanted.salt_bytes, len(mechanism)) + mechanism + pss_hash
        return bytes((_SIGN, len(head))) + head
    except (struct.error, ValueError):
        raise ValueError(f"key {key_number} or its {wanted.salt_bytes} bytes of salt are out of range") from None


def split_sign(datagram: bytes) -> tuple[bytes, bytes] | None:
    """The head and the data of a signature's request; None for another request. Raises IndexError."""
    if datagram[0] != _SIGN:
        return None
    data_at = _HEAD_AT + datagram[1]
    return datagram[:data_at], datagram[data_at:]


def read_sign_head(head: bytes) -> tuple[int, TokenSignature]:
    """The number of the key, and the wanted signature without its data. Raises ValueError, struct.error."""
    key_number, salt_bytes, mechanism_length = _SIGN_NUMBERS.unpack_from(head, _HEAD_AT)
    names = head[_HEAD_AT + _SIGN_NUMBERS.size :].decode()
    return key_number, TokenSignature(names[:mechanism_length], b"", names[mechanism_length:], salt_bytes)


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
