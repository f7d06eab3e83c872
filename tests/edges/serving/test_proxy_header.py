"""Whatever bytes a balancer sends, a header is read as it was written or refused in one of two ways."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kipuka_core.edges.serving.proxy_protocol import (
    FIXED_BYTES,
    MAX_HEADER_BYTES,
    SIGNATURE,
    ProxiedClient,
    ProxyClosed,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderMissing,
    _read_from,
    parse_header,
    remaining_bytes,
)

PORTS = st.integers(0, 65535)
TLVS = st.binary(max_size=300)


def header(version_command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", version_command, family, len(block)) + block


def tcp4(source: IPv4Address, port: int, more: bytes = b"") -> bytes:
    return header(0x21, 0x11, source.packed + IPv4Address("192.0.2.9").packed + struct.pack("!HH", port, 8443) + more)


def tcp6(source: IPv6Address, port: int, more: bytes = b"") -> bytes:
    addresses = source.packed + IPv6Address("2001:db8::9").packed
    return header(0x21, 0x21, addresses + struct.pack("!HH", port, 8443) + more)


@given(st.ip_addresses(v=4), PORTS, TLVS)
def test_tcp_over_ipv4(source: IPv4Address, port: int, more: bytes) -> None:
    assert parse_header(tcp4(source, port, more)) == ProxyHeader(ProxiedClient(str(source), port))


@given(st.ip_addresses(v=6), PORTS, TLVS)
def test_tcp_over_ipv6(source: IPv6Address, port: int, more: bytes) -> None:
    client = ProxiedClient(str(source.ipv4_mapped or source), port)
    assert parse_header(tcp6(source, port, more)) == ProxyHeader(client)


def test_an_ipv4_client_of_an_ipv6_balancer_is_the_same_client() -> None:
    mapped = tcp6(IPv6Address("::ffff:192.0.2.1"), 5)
    assert parse_header(mapped).client == ProxiedClient("192.0.2.1", 5)


@given(st.integers(0, 255), TLVS)
def test_local_is_the_balancer_s_own_whatever_the_family_is_said_to_be(family: int, block: bytes) -> None:
    assert parse_header(header(0x20, family, block)) == ProxyHeader(None, is_local=True)


@given(TLVS)
def test_a_client_without_an_address_has_the_balancer_s(more: bytes) -> None:
    for family, block in ((0x00, b""), (0x31, bytes(216))):
        assert parse_header(header(0x21, family, block + more)) == ProxyHeader(None)


def test_every_other_version_and_command_is_refused() -> None:
    for version_command in set(range(256)) - {0x20, 0x21}:
        with pytest.raises(ProxyHeaderError, match="version and command"):
            parse_header(header(version_command, 0x11, bytes(12)))


def test_every_other_family_and_transport_is_refused() -> None:
    for family in set(range(256)) - {0x00, 0x11, 0x21, 0x31}:
        with pytest.raises(ProxyHeaderError, match="family and transport"):
            parse_header(header(0x21, family, bytes(216)))


@pytest.mark.parametrize(("family", "least"), [(0x11, 12), (0x21, 36), (0x31, 216)])
def test_no_room_for_the_addresses_is_refused(family: int, least: int) -> None:
    parse_header(header(0x21, family, bytes(least)))
    with pytest.raises(ProxyHeaderError, match="too short"):
        parse_header(header(0x21, family, bytes(least - 1)))


def test_more_than_4_kib_are_not_read() -> None:
    most = MAX_HEADER_BYTES - FIXED_BYTES
    assert parse_header(header(0x20, 0, bytes(most))).is_local
    with pytest.raises(ProxyHeaderError, match="at most 4096"):
        remaining_bytes(header(0x20, 0, bytes(most + 1))[:FIXED_BYTES])


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda data: SIGNATURE + data))
def test_any_bytes_are_a_header_or_are_refused(data: bytes) -> None:
    with suppress(ProxyHeaderError):
        parse_header(data)
        assert data.startswith(SIGNATURE)


class Wire:
    """What a peer has sent, in pieces; after them it has closed."""

    def __init__(self, data: bytes, sizes: Iterator[int]) -> None:
        self.left = data
        self._sizes = sizes

    async def __call__(self, size: int) -> bytes:
        taken = self.left[: min(size, next(self._sizes, size))]
        self.left = self.left[len(taken) :]
        return taken


def read(data: bytes, sizes: list[int]) -> tuple[ProxyHeader, bytes]:
    wire = Wire(data, iter(sizes))
    return asyncio.run(_read_from(wire)), wire.left


SIZES = st.lists(st.integers(1, 20))


@given(st.ip_addresses(v=4), PORTS, TLVS, st.binary(max_size=100), SIZES)
def test_the_client_s_own_bytes_are_left_alone(
    source: IPv4Address, port: int, more: bytes, hello: bytes, sizes: list[int]
) -> None:
    found, left = read(tcp4(source, port, more) + hello, sizes)
    assert found == ProxyHeader(ProxiedClient(str(source), port))
    assert left == hello


@given(st.data(), SIZES)
def test_a_header_that_is_cut_off_is_refused(data: Any, sizes: list[int]) -> None:
    whole = tcp4(IPv4Address("192.0.2.1"), 1, b"more")
    length = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ProxyHeaderError, match="cut off"):
        read(whole[:length], sizes)


@given(SIZES)
def test_the_other_kinds_are_known_by_their_first_bytes(sizes: list[int]) -> None:
    with pytest.raises(ProxyHeaderError, match="version 1"):
        read(b"PROXY UNKNOWN\r\n", sizes)
    with pytest.raises(ProxyHeaderMissing):
        read(b"\x16\3\1\2\0\1", sizes)
    with pytest.raises(ProxyClosed):
        read(b"", sizes)
