"""What a signer process and its owner say to each other: one JSON object a datagram, bytes in base64."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from enum import StrEnum
from typing import Any

MAX_BYTES = 160_000
"""Below the smallest send buffer that Linux gives a socket."""


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
