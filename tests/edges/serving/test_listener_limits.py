"""Caps, timeouts and draining."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from typing import Any

import pytest
from h2.connection import H2Connection

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def connect(site: Any, port: int) -> Any:
    return await asyncio.open_connection("127.0.0.1", port, ssl=site.client_context(), server_hostname="localhost")


async def ask(reader: Any, writer: Any) -> int:
    writer.write(HEAD + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("limits", "counter"),
    [
        ({"max_connections": 3}, "rejected_total"),
        ({"max_connections_per_address": 3}, "rejected_address"),
    ],
)
def test_beyond_a_cap_connections_are_closed_and_counted_until_one_goes(
    run: Any, site: Any, kit: Any, limits: Any, counter: Any
) -> None:
    async def scenario() -> None:
        async with kit.serving(site.server_tls(), **limits) as served:
            kept = [await connect(site, served.port) for _ in range(3)]
            with pytest.raises(OSError, match=r".*"):
                await connect(site, served.port)
            assert getattr(served.listener.counters, counter) == 1
            assert [await ask(*pair) for pair in kept] == [200] * 3
            kept[0][1].close()
            await served.until(lambda: served.listener.counters.open == 2)
            replaced = await connect(site, served.port)
            assert await ask(*replaced) == 200
            for _, writer in [*kept, replaced]:
                writer.close()
            await served.until(lambda: served.listener.counters.open == 0)
            assert not served.listener._seats._taken

    run(scenario())


def test_handshakes_count_as_connections(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> None:
        async with kit.serving(site.server_tls(), max_connections=1) as served:
            with socket.create_connection(("127.0.0.1", served.port)):
                await served.until(lambda: served.listener.counters.open == 1)
                with pytest.raises(OSError, match=r".*"):
                    await connect(site, served.port)
            await served.until(lambda: served.listener.counters.open == 0)

    run(scenario())


def test_out_of_file_descriptors_the_client_waits_and_is_served_later(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            context = site.client_context()
            client = socket.create_connection(("127.0.0.1", served.port))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            # From here on the process can open nothing: the next accept fails with EMFILE.
            waiting = socket.socket()
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
                waiting.connect(("127.0.0.1", served.port))
            try:
                await served.until(lambda: served.listener.counters.accept_errors > 0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await served.until(lambda: served.listener.counters.accepted == 2)
            client.close()
            reader, writer = await asyncio.open_connection(sock=waiting, ssl=context, server_hostname="localhost")
            status = await ask(reader, writer)
            writer.close()
            return status

    assert run(scenario()) == 200


def test_an_aborted_client_does_not_pause_the_accept_loop(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            loop = asyncio.get_running_loop()
            listener, failures = served.listener, [OSError(errno.ECONNABORTED, "gone")]
            bound = listener._socket

            class Aborting:
                async def sock_accept(self, _: Any) -> Any:
                    if failures:
                        raise failures.pop()
                    return await loop.sock_accept(bound)

            listener._accepting.cancel()
            await asyncio.wait([listener._accepting])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("kipuka_core.edges.serving.listener.asyncio.get_running_loop", Aborting)
                listener._accepting = loop.create_task(listener._accept_forever())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            return await fetch_and_count(served, site, kit)

    assert run(scenario()) == (200, 0)


async def fetch_and_count(served: Any, site: Any, kit: Any) -> Any:
    reply = await kit.fetch(served.port, site.client_context())
    return reply.status, served.listener.counters.accept_errors


async def closed_by_server(reader: Any) -> bytes:
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        return bytes(await reader.read())
    return b""


def test_a_client_that_sends_no_head_or_half_of_one_is_closed_after_the_header_timeout(
    run: Any, site: Any, kit: Any
) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), header_timeout_seconds=0.1, idle_timeout_seconds=600) as served:
            silent, slow = [await connect(site, served.port) for _ in range(2)]
            slow[1].write(HEAD)
            answers = await asyncio.gather(closed_by_server(silent[0]), closed_by_server(slow[0]))
            silent[1].close()
            slow[1].close()
            await served.until(lambda: served.listener.counters.open == 0)
            return answers

    assert run(scenario()) == [b"", b""]


def test_a_trickle_of_header_bytes_does_not_move_the_deadline(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> None:
        async with kit.serving(site.server_tls(), header_timeout_seconds=0.2, idle_timeout_seconds=600) as served:
            reader, writer = await connect(site, served.port)
            assert await ask(reader, writer) == 200
            writer.write(HEAD)
            ended = asyncio.ensure_future(closed_by_server(reader))
            while not ended.done():
                writer.write(b"X-More: y\r\n")
                await asyncio.wait([ended], timeout=0.02)
            writer.close()

    run(scenario())


def test_a_kept_connection_is_closed_after_the_idle_timeout_and_not_after_the_header_timeout(
    run: Any, site: Any, kit: Any
) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), header_timeout_seconds=0.05, idle_timeout_seconds=0.5) as served:
            loop = asyncio.get_running_loop()
            reader, writer = await connect(site, served.port)
            assert await ask(reader, writer) == 200
            started = loop.time()
            assert await closed_by_server(reader) == b""
            writer.close()
            return loop.time() - started

    assert run(scenario()) > 0.4  # a slow machine makes it longer, never shorter


def test_a_running_request_is_under_no_header_or_idle_timeout(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        release = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await release.wait()
            await kit.answer(send, b"late")

        async with kit.serving(
            site.server_tls(), slow, header_timeout_seconds=0.05, idle_timeout_seconds=0.05
        ) as served:
            reader, writer = await connect(site, served.port)
            asking = asyncio.ensure_future(ask(reader, writer))
            other = await connect(site, served.port)
            # The other connection times out; this one, opened before it, would have.
            await closed_by_server(other[0])
            await asyncio.wait([asking], timeout=0.1)
            release.set()
            status = await asking
            for pair in ((reader, writer), other):
                pair[1].close()
            return status

    assert run(scenario()) == 200


def test_draining_closes_idle_connections_and_waits_for_running_requests(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        started, release = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/slow":
                started.set()
                await release.wait()
            await kit.answer(send, b"done")

        async with kit.serving(site.server_tls(), app) as served:
            idle, busy, mute = [await connect(site, served.port) for _ in range(3)]
            assert await ask(*idle) == 200
            busy[1].write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await started.wait()
            with socket.create_connection(("127.0.0.1", served.port)):
                await served.until(lambda: served.listener.counters.open == 4)
                draining = asyncio.ensure_future(served.listener.drain())
                assert await closed_by_server(idle[0]) == b""
                assert await closed_by_server(mute[0]) == b""
                with pytest.raises(ConnectionRefusedError):
                    await connect(site, served.port)
                assert not draining.done()
                release.set()
                answer = await closed_by_server(busy[0])
                await draining
            assert served.listener.counters.open == 0
            for _, writer in (idle, busy, mute):
                writer.close()
            return answer

    assert run(scenario()).endswith(b"done")


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_a_request_that_outlasts_the_shutdown_timeout_is_cancelled(
    run: Any, site: Any, kit: Any, protocol: str
) -> None:
    async def scenario() -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with kit.serving(site.server_tls(), endless, shutdown_timeout_seconds=0.05) as served:
            context = site.client_context()
            context.set_alpn_protocols([protocol])
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=context, server_hostname="localhost"
            )
            if protocol == "h2":
                h2 = H2Connection()
                h2.initiate_connection()
                names = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
                h2.send_headers(1, names, end_stream=True)
                writer.write(h2.data_to_send())
            else:
                writer.write(HEAD + b"\r\n")
            await started.wait()
            await served.listener.drain()
            assert cancelled.is_set()
            assert served.listener.counters.open == 0
            await closed_by_server(reader)
            writer.close()

    run(scenario())


def test_an_internal_error_is_logged_and_ends_only_its_connection(
    run: Any, site: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            monkeypatch.setattr(served.listener, "_describe", lambda _: 1 / 0)
            with pytest.raises((OSError, IndexError)):
                await kit.fetch(served.port, site.client_context())
            monkeypatch.undo()
            return await kit.fetch(served.port, site.client_context())

    with caplog.at_level(logging.ERROR):
        assert run(scenario()).status == 200
    assert "ended by an internal error" in caplog.text
