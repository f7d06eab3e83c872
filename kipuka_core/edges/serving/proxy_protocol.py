"""PROXY protocol version 2: a load balancer says, before TLS begins, whom it speaks for.

https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt. Only addresses are taken from a header. What else it
carries (TLVs) is skipped: a balancer's word on the client's certificate counts for nothing here, and the CRC32c
checksum, which a receiver may leave alone, is not verified: TCP has its own.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIXED_BYTES = 16
"""Signature, version with command, family with transport, length of what follows."""
MAX_HEADER_BYTES = 4096

_VERSION_1 = b"PROXY "
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX_STREAM: 216}


class ProxyHeaderError(ConnectionError):
    """A connection of a load balancer does not begin with a header that can be used; ``code`` is the cause's word."""

    code = "proxy_header_malformed"


class ProxyHeaderMissing(ProxyHeaderError):
    """There is no header at all."""

    code = "proxy_header_missing"


class ProxyClosed(Exception):
    """Not a failure: the balancer closed without having sent a byte. It has seen that the port is open."""


@dataclass(frozen=True, slots=True)
class ProxiedClient:
    """The source address of a header, as text, and its port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header.

    Without a client the balancer's address counts: the connection is its own (``is_local``), or that of a client that
    has no address on a network.
    """

    client: ProxiedClient | None
    is_local: bool = False


def remaining_bytes(fixed: bytes) -> int:
    """How many bytes follow the first :data:`FIXED_BYTES`. Raises ProxyHeaderError."""
    _check_beginning(fixed)
    version_command, family, length = struct.unpack_from("!BBH", fixed, len(SIGNATURE))
    if version_command not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError(f"version and command are 0x{version_command:02x}")
    if version_command == _PROXY and family not in _ADDRESS_BYTES:
        raise ProxyHeaderError(f"family and transport are 0x{family:02x}")
    if FIXED_BYTES + length > MAX_HEADER_BYTES:
        raise ProxyHeaderError(f"it has {FIXED_BYTES + length} bytes, and at most {MAX_HEADER_BYTES} are read")
    if version_command == _PROXY and length < _ADDRESS_BYTES[family]:
        raise ProxyHeaderError("it is too short for its addresses")
    return int(length)


def parse_header(header: bytes) -> ProxyHeader:
    """Read a whole header. Raises ProxyHeaderError."""
    if len(header) < FIXED_BYTES or len(header) != FIXED_BYTES + remaining_bytes(header[:FIXED_BYTES]):
        raise ProxyHeaderError("it is cut off, or longer than it says")
    if header[12] == _LOCAL:
        return ProxyHeader(None, is_local=True)
    family = header[13]
    if family == _TCP4:
        source, _, port, _ = struct.unpack_from("!4s4sHH", header, FIXED_BYTES)
        return ProxyHeader(ProxiedClient(str(IPv4Address(source)), port))
    if family == _TCP6:
        source, _, port, _ = struct.unpack_from("!16s16sHH", header, FIXED_BYTES)
        address = IPv6Address(source)
        return ProxyHeader(ProxiedClient(str(address.ipv4_mapped or address), port))
    return ProxyHeader(None)


class _Source(Protocol):
    """What a header is read from."""

    async def __call__(self, size: int) -> bytes:
        """At least one byte and at most ``size``; none at the end."""
        ...


async def read_header(connection: socket.socket) -> ProxyHeader:
    """Read a header from a socket that does not block, and not a byte more: the next one is the client's.

    Raises ProxyHeaderError, or ProxyClosed when nothing came at all. Waits for ever: the caller has the time limit,
    and what he cancels leaves no more than a closed connection to be made.
    """
    loop = asyncio.get_running_loop()

    async def receive(size: int) -> bytes:
        try:
            return await loop.sock_recv(connection, size)
        except ConnectionError:  # a reset is an end
            return b""

    return await _read_from(receive)


async def _read_from(receive: _Source) -> ProxyHeader:
    fixed = await _exactly(receive, FIXED_BYTES, b"")
    header = await _exactly(receive, FIXED_BYTES + remaining_bytes(fixed), fixed)
    return parse_header(header)


async def _exactly(receive: _Source, size: int, data: bytes) -> bytes:
    while len(data) < size:
        more = await receive(size - len(data))
        if not more:
            break
        data += more
        _check_beginning(data)
    if not data:
        raise ProxyClosed
    if len(data) < size:
        raise ProxyHeaderError("it is cut off")
    return data


def _check_beginning(data: bytes) -> None:
    """Judge what has come so far: nobody waits for the rest of what is no header."""
    if data.startswith(_VERSION_1):
        raise ProxyHeaderError("it is version 1, which is text")
    if not SIGNATURE.startswith(data[: len(SIGNATURE)]) and not _VERSION_1.startswith(data):
        raise ProxyHeaderMissing("the connection begins with something else")
