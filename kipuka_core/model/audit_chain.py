"""The chain that ties the lines of an audit file together, so that a change of any of them shows.

Each writer (one sink of one process) has a chain of its own, and several may write into one file. A line is an event's
JSON object whose last member is its link::

    {"event":…,"chain":{"writer":"5f…","seq":7,"at":4711,"prev":"c0…","mac":"9e…"}}

``seq`` counts the writer's lines from 1, ``at`` is the byte of the file where the line begins, ``prev`` is the ``mac``
of the writer's line before, and ``mac`` is HMAC-SHA-256 (RFC 2104), cut to 128 bits, of all that stands before it in
the line. So a line proves itself, its place in the file and in its chain; only where a chain ends, no line can say.
That stands in the store: the writer's newest :class:`AuditHead`, which is recorded after the line is on disk.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

KEY_BYTES = 32
KEY_FILE = "audit.key"
"""The name of the key's file under ``state_dir``."""
START = "0" * 32
"""What the first line of a chain has for ``prev``."""
_MAC_BYTES = 16
_LINK = re.compile(
    rb',"chain":\{"writer":"([0-9a-f]{16})","seq":([1-9][0-9]{0,18}),"at":(0|[1-9][0-9]{0,18}),"prev":"([0-9a-f]{32})"'
    rb',"mac":"([0-9a-f]{32})"\}\}\Z'
)
_MAC_MEMBER_BYTES = len(',"mac":""}}') + 2 * _MAC_BYTES
_LONGEST_LINK_BYTES = 256


@dataclass(frozen=True, slots=True)
class ChainKey:
    """The secret of this server's chains. Who reads the file does not need it, who could forge the file has it not."""

    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, content: bytes) -> ChainKey:
        """The key in a key file: hexadecimal digits. Raises ValueError."""
        secret = bytes.fromhex(content.decode("ascii"))
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        return cls(secret)

    @property
    def id(self) -> str:
        """Tells keys from one another and says nothing of them."""
        return hmac.digest(self.secret, b"kipuka audit key id", sha256)[:8].hex()

    def mac(self, signed: bytes) -> str:
        """The ``mac`` of a line that begins with ``signed``."""
        return hmac.digest(self.secret, signed, "sha256")[:_MAC_BYTES].hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """Where a chain ended when this was recorded: the store's word against a cut tail."""

    writer: str
    key_id: str
    file: Path
    """The file as the sink knows it; its lines may have been moved since, as logrotate does."""
    seq: int
    mac: str
    time: datetime
    """When that line was on disk."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a line says of its place, and whether the key confirms it."""

    writer: str
    seq: int
    at: int
    prev: str
    mac: str
    is_genuine: bool


def chained(event_json: bytes, *, writer: str, seq: int, at: int, prev: str, key: ChainKey) -> tuple[bytes, str]:
    """A line of the file, with its newline, and its ``mac``; ``event_json`` is an ASCII JSON object with members."""
    link = f',"chain":{{"writer":"{writer}","seq":{seq},"at":{at},"prev":"{prev}"'
    signed = event_json[:-1] + link.encode("ascii")
    mac = key.mac(signed)
    return signed + f',"mac":"{mac}"}}}}\n'.encode("ascii"), mac


def link_of(line: bytes, key: ChainKey) -> Link | None:
    """The link of a line without its newline; None when there is none."""
    match = _LINK.search(line, max(0, len(line) - _LONGEST_LINK_BYTES))
    if match is None:
        return None
    writer, seq, at, prev, mac = (group.decode("ascii") for group in match.groups())
    is_genuine = hmac.compare_digest(key.mac(line[:-_MAC_MEMBER_BYTES]), mac)
    return Link(writer, int(seq), int(at), prev, mac, is_genuine)
