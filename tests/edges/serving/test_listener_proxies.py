"""A listener behind a load balancer: real connections that begin with a PROXY protocol header."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from ipaddress import ip_address
from typing import Any

import pytest

BALANCER = ["127.0.0.1/32"]
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def header(source: str, port: int = 4711, more: bytes = b"") -> bytes:
    address = ip_address(source)
    other = ip_address("192.0.2.9" if address.version == 4 else "2001:db8::9")
    block = address.packed + other.packed + struct.pack("!HH", port, 8443) + more
    family = 0x11 if address.version == 4 else 0x21
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + struct.pack("!BH", family, len(block)) + block


@contextlib.contextmanager
def through_balancer(port: int, context: ssl.SSLContext, *pieces: bytes) -> Any:
    """A client's TLS connection after what the balancer sends before it, piece by piece."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            plain.sendall(piece)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            yield client


def ask(client: ssl.SSLSocket) -> dict[str, Any]:
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += client.recv(65536) or pytest.fail("the connection ended")
    head, _, body = raw.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536) or pytest.fail("the connection ended")
    return dict(json.loads(body))


def seen_through(run: Any, site: Any, kit: Any, *pieces: bytes) -> Any:
    async def scenario() -> Any:
        def client(port: int) -> Any:
            with through_balancer(port, site.client_context(site.devices.leaf("device")), *pieces) as client:
                return ask(client)

        async with kit.serving(site.server_tls(), proxies=BALANCER) as served:
            seen = await asyncio.to_thread(client, served.port)
            await served.until(lambda: served.listener.counters.open == 0)
            assert not served.listener._seats._taken
            assert not served.failures
            return seen

    return run(scenario())


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (header("192.0.2.1"), "192.0.2.1"),
        (header("192.0.2.1", more=bytes(2000)), "192.0.2.1"),
        (header("2001:db8::1"), "2001:db8::1"),
        (header("::ffff:192.0.2.7"), "192.0.2.7"),
        (LOCAL, "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + bytes(216), "127.0.0.1"),
    ],
)
def test_the_client_is_whom_the_header_names(run: Any, site: Any, kit: Any, data: bytes, address: str) -> None:
    seen = seen_through(run, site, kit, data)
    assert (seen["client"], seen["source_address"]) == ("CN=device", address)


def test_a_header_may_come_byte_by_byte(run: Any, site: Any, kit: Any) -> None:
    data = header("192.0.2.1")
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert seen_through(run, site, kit, *pieces)["source_address"] == "192.0.2.1"


def refused(run: Any, site: Any, kit: Any, data: bytes, **limits: Any) -> Any:
    async def scenario() -> Any:
        def client(port: int) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
                plain.sendall(data)
                with contextlib.suppress(ConnectionResetError):
                    return plain.recv(100)
                return b""

        async with kit.serving(site.server_tls(), proxies=BALANCER, **limits) as served:
            assert await asyncio.to_thread(client, served.port) == b""
            failure = await served.failure()
            await served.until(lambda: served.listener.counters.open == 0)
            assert not served.listener._seats._taken
            assert served.listener.counters.handshakes_failed == 1
            return failure

    return run(scenario())


@pytest.mark.parametrize(
    ("data", "cause", "detail"),
    [
        (b"\x16\3\1\2\0\1" + bytes(100), "proxy_header_missing", "something else"),
        (b"GET / HTTP/1.1\r\n\r\n", "proxy_header_missing", "something else"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "proxy_header_malformed", "version 1"),
        (b"PROXY UNKNOWN\r\n", "proxy_header_malformed", "version 1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12), "proxy_header_malformed", "version"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c" + bytes(12), "proxy_header_malformed", "transport"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04" + bytes(4), "proxy_header_malformed", "too short"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0" + bytes(4096), "proxy_header_malformed", "4096"),
    ],
)
def test_anything_else_is_refused(run: Any, site: Any, kit: Any, data: bytes, cause: str, detail: str) -> None:
    failure = refused(run, site, kit, data)
    assert (failure.address, failure.cause) == ("127.0.0.1", cause)
    assert detail in failure.detail


@pytest.mark.parametrize("data", [b"", header("192.0.2.1")[:-1]])
def test_a_header_that_does_not_come_in_time_is_refused(run: Any, site: Any, kit: Any, data: bytes) -> None:
    failure = refused(run, site, kit, data, handshake_timeout_seconds=0.1)
    assert (failure.cause, failure.detail) == ("proxy_header_missing", "it did not arrive in time")


def test_the_handshake_has_what_the_header_left_of_the_time(run: Any, site: Any, kit: Any) -> None:
    """The first client's header comes late, the second one's at once: the first one's time is up first."""

    async def scenario() -> Any:
        loop, seconds = asyncio.get_running_loop(), 0.5
        async with kit.serving(site.server_tls(), proxies=BALANCER, handshake_timeout_seconds=seconds) as served:
            address = ("127.0.0.1", served.port)
            with socket.create_connection(address) as first, contextlib.ExitStack() as later:
                began = loop.time()
                await served.until(lambda: loop.time() >= began + 0.3 * seconds)
                second = later.enter_context(socket.create_connection(address))
                second.sendall(header("192.0.2.2"))
                await served.until(lambda: loop.time() >= began + 0.6 * seconds)
                first.sendall(header("192.0.2.1"))
                await served.until(lambda: len(served.failures) == 2)
            return [(failure.address, failure.cause) for failure in served.failures]

    assert run(scenario()) == [("192.0.2.1", "handshake_timeout"), ("192.0.2.2", "handshake_timeout")]


def test_a_failed_handshake_behind_a_balancer_is_the_client_s(run: Any, site: Any, kit: Any) -> None:
    failure = refused(run, site, kit, header("192.0.2.1") + b"SSH-2.0-OpenSSH_9.2\r\n")
    assert (failure.address, failure.cause) == ("192.0.2.1", "not_tls")
    smuggled = refused(run, site, kit, header("192.0.2.1") + header("10.0.0.1"))
    assert (smuggled.address, smuggled.cause) == ("192.0.2.1", "proxy_header_not_allowed")


def test_a_header_from_anybody_else_is_refused(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        def client(port: int) -> None:
            address = ("127.0.0.1", port)
            with socket.create_connection(address, timeout=20, source_address=("127.0.0.2", 0)) as plain:
                plain.sendall(header("127.0.0.1"))
                plain.recv(100)

        async with kit.serving(site.server_tls(), proxies=BALANCER) as served:
            await asyncio.to_thread(client, served.port)
            return await served.failure()

    failure = run(scenario())
    assert (failure.address, failure.cause) == ("127.0.0.2", "proxy_header_not_allowed")


@pytest.mark.parametrize("sent", [b"", LOCAL])
@pytest.mark.parametrize("resets", [False, True])
def test_a_balancer_that_looks_whether_the_port_is_open_is_no_failure(
    run: Any, site: Any, kit: Any, sent: bytes, *, resets: bool
) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), proxies=BALANCER) as served:
            with socket.create_connection(("127.0.0.1", served.port)) as plain:
                plain.sendall(sent)
                if resets:
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            counters = served.listener.counters
            await served.until(lambda: counters.accepted == 1 and counters.open == 0)
            return served.failures, counters.handshakes_failed

    assert run(scenario()) == ([], 0)


def test_the_cap_per_address_counts_clients_and_not_the_balancer(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> None:
        context = site.client_context()

        def sessions(port: int, stack: Any) -> None:
            for number in range(20):
                client = stack.enter_context(through_balancer(port, context, header(f"192.0.2.{number // 2}")))
                assert ask(client)["source_address"] == f"192.0.2.{number // 2}"
            for _ in range(5):
                assert ask(stack.enter_context(through_balancer(port, context, LOCAL)))["client"] is None
            with pytest.raises(OSError, match=r".*"), through_balancer(port, context, header("192.0.2.3")):
                pass

        async with kit.serving(site.server_tls(), proxies=BALANCER, max_connections_per_address=2) as served:
            counters = served.listener.counters
            with contextlib.ExitStack() as stack:
                await asyncio.to_thread(sessions, served.port, stack)
                await served.until(lambda: counters.open == 25)
                assert (counters.rejected_address, counters.rejected_total) == (1, 0)
                assert not served.failures
            await served.until(lambda: counters.open == 0)
            assert not served.listener._seats._taken

    run(scenario())


def test_connections_without_a_header_leave_room_for_others(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        values = {"max_connections": 100, "handshake_timeout_seconds": 600}
        async with kit.serving(site.server_tls(), proxies=["127.0.0.1/32", "127.0.0.3/32"], **values) as served:
            counters = served.listener.counters
            with contextlib.ExitStack() as flood:
                for _ in range(100):
                    flood.enter_context(socket.create_connection(("127.0.0.1", served.port)))
                await served.until(lambda: counters.open + counters.rejected_address == 100)
                assert counters.open == 64
                status = await asyncio.to_thread(from_another_address, served.port, site)
            await served.until(lambda: counters.open == 0)
            return status

    assert run(scenario())["source_address"] == "192.0.2.1"


def from_another_address(port: int, site: Any) -> dict[str, Any]:
    """A client of a balancer that does its work, beside one that does not."""
    with socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.3", 0)) as plain:
        plain.sendall(header("192.0.2.1"))
        with site.client_context().wrap_socket(plain, server_hostname="localhost") as client:
            return ask(client)


def test_draining_ends_connections_that_wait_for_their_header(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), proxies=BALANCER, handshake_timeout_seconds=600) as served:
            with socket.create_connection(("127.0.0.1", served.port)) as plain:
                plain.settimeout(20)
                await served.until(lambda: served.listener.counters.open == 1)
                await served.listener.drain()
                assert served.listener.counters.open == 0
                return await asyncio.to_thread(plain.recv, 1)

    assert run(scenario()) == b""
