"""HTTP/1.1 and HTTP/2 over the listener: what is served, and what cannot break out."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx
import pytest


@pytest.fixture(scope="session")
def device(site: Any, kit: Any) -> Any:
    return site.devices.leaf("http-device")


async def exchange(site: Any, port: int, device: Any, request: bytes) -> bytes:
    """Send bytes on a new TLS connection and read to its end."""
    context = site.client_context(device)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
def test_curl_gets_the_protocol_that_alpn_chose(
    run: Any, site: Any, kit: Any, device: Any, option: str, version: str
) -> None:
    certificate_file, key_file = kit.write_identity(site.directory, device)

    def curl(port: int) -> Any:
        url = [f"https://localhost:{port}/some/path", f"https://localhost:{port}/again"]
        identity = ["--cert", certificate_file, "--key", key_file, "--cacert", str(site.ca_file)]
        command = ["curl", "-sS", option, "-w", "\n", "--resolve", f"localhost:{port}:127.0.0.1", *identity, *url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            seen = await asyncio.to_thread(curl, served.port)
            assert served.listener.counters.accepted == 1
            return seen

    for seen, path in zip(run(scenario()), ("/some/path", "/again"), strict=True):
        assert (seen["http_version"], seen["path"], seen["client"]) == (version, path, "CN=http-device")
        assert seen["user_agent"].startswith("curl/")


@pytest.mark.parametrize("http2", [False, True])
def test_a_body_arrives_whole_and_many_requests_share_a_connection(
    run: Any, site: Any, kit: Any, device: Any, http2: bool
) -> None:
    async def scenario() -> Any:
        async with (
            kit.serving(site.server_tls()) as served,
            httpx.AsyncClient(http2=http2, http1=not http2, verify=site.client_context(device)) as client,
        ):
            url = f"https://localhost:{served.port}/"
            answers = [await client.post(url, content=b"x" * size) for size in (0, 1, 70000, 300000)]
            if http2:
                answers += await asyncio.gather(*(client.post(url, content=b"y" * 5000) for _ in range(20)))
            assert served.listener.counters.accepted == 1
            return answers

    answers = run(scenario())
    assert [answer.json()["body_length"] for answer in answers[:4]] == [0, 1, 70000, 300000]
    assert {answer.json()["client"] for answer in answers} == {"CN=http-device"}
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}


def test_the_response_headers_are_few_and_short(run: Any, site: Any, kit: Any, device: Any) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await exchange(site, served.port, device, request)

    head = run(scenario()).split(b"\r\n\r\n")[0].lower()
    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert names == [b"content-length", b"date", b"connection"]


def test_head_and_body_leave_in_one_tls_record(run: Any, site: Any, kit: Any) -> None:
    def first_read(port: int) -> Any:
        with kit.tls_client(port, site.client_context()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return client.recv(16384)  # an SSL read returns at most one record

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await asyncio.to_thread(first_read, served.port)

    head, body = run(scenario()).split(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


UPGRADES = {
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
}


@pytest.mark.parametrize("kind", UPGRADES)
def test_an_upgrade_is_ignored_and_the_connection_stays_what_it_is(
    run: Any, site: Any, kit: Any, device: Any, kind: str
) -> None:
    plain = b"GET /second HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    request = b"GET /first HTTP/1.1\r\nHost: localhost\r\n" + UPGRADES[kind] + b"\r\n" + plain

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await exchange(site, served.port, device, request)

    answer = run(scenario())
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b" 101 " not in answer
    for part, path in zip(answer.split(b"\r\n\r\n")[1:], ("/first", "/second"), strict=True):
        seen = json.loads(part.split(b"HTTP/1.1")[0])
        assert (seen["type"], seen["path"], seen["client"]) == ("http", path, "CN=http-device")


def test_http2_by_prior_knowledge_without_alpn_is_refused(run: Any, site: Any, kit: Any, device: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await exchange(site, served.port, device, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

    assert run(scenario()).startswith(b"HTTP/1.1 505")


def test_a_head_beyond_the_limit_is_431_and_garbage_is_400(run: Any, site: Any, kit: Any) -> None:
    huge = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 5000
    complete = huge + b"\r\n\r\n"

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), max_header_bytes=4096) as served:
            requests = (huge, complete, b"\x00\x01\r\n\r\n")
            return [await exchange(site, served.port, None, request) for request in requests]

    assert [answer.split()[1] for answer in run(scenario())] == [b"431", b"431", b"400"]


class Http2Client:
    """Frames by hand, for what no well-behaved client does."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self.h2.initiate_connection()

    def request(self, stream_id: int, method: Any = "GET", *, end_stream: Any = True, extra: Any = ()) -> None:
        pseudo = [(":method", method), (":authority", "localhost")]
        if method != "CONNECT" or extra:
            pseudo += [(":scheme", "https"), (":path", "/")]
        self.h2.send_headers(stream_id, [*pseudo, *extra], end_stream=end_stream)

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def events_until(self, kind: type[h2.events.Event]) -> Any:
        seen: list[h2.events.Event] = []
        while not any(isinstance(event, kind) for event in seen):
            await self.flush()
            data = await self.reader.read(65536)
            if not data:
                break
            seen += self.h2.receive_data(data)
        return seen


async def http2_client(site: Any, port: int, device: Any = None) -> Any:
    context = site.client_context(device)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    return Http2Client(reader, writer)


@pytest.mark.parametrize("extra", [(), ((":protocol", "websocket"),)])
def test_http2_connect_is_reset_and_other_streams_go_on(run: Any, site: Any, kit: Any, device: Any, extra: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            client = await http2_client(site, served.port, device)
            client.request(1, "CONNECT", end_stream=False, extra=extra)
            client.request(3)
            events = await client.events_until(h2.events.StreamEnded)
            client.writer.close()
            return events

    events = run(scenario())
    reset = next(event for event in events if isinstance(event, h2.events.StreamReset))
    assert (reset.stream_id, reset.error_code) == (1, h2.errors.ErrorCodes.REFUSED_STREAM)
    body = b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))
    assert json.loads(body)["client"] == "CN=http-device"
    settings = next(event for event in events if isinstance(event, h2.events.RemoteSettingsChanged))
    codes = {int(code): change.new_value for code, change in settings.changed_settings.items()}
    assert codes[3] == 100  # MAX_CONCURRENT_STREAMS
    assert codes[6] == 16384  # MAX_HEADER_LIST_SIZE
    assert codes.get(8, 0) == 0  # ENABLE_CONNECT_PROTOCOL


def test_http2_data_after_the_answer_is_discarded_and_other_streams_go_on(run: Any, site: Any, kit: Any) -> None:
    async def early(scope: Any, receive: Any, send: Any) -> None:
        await kit.answer(send, b"no", 413)

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), early) as served:
            client = await http2_client(site, served.port)
            client.request(1, "POST", end_stream=False)
            await client.events_until(h2.events.StreamEnded)
            client.h2.send_data(1, b"x" * 10000)
            client.request(3)
            events = await client.events_until(h2.events.StreamEnded)
            client.writer.close()
            return events

    ended = [event.stream_id for event in run(scenario()) if isinstance(event, h2.events.StreamEnded)]
    assert ended == [3]


def test_more_streams_or_longer_heads_than_allowed_end_the_http2_connection(run: Any, site: Any, kit: Any) -> None:
    async def hold(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def scenario(fill: Any) -> Any:
        settings = {"max_concurrent_streams": 2, "max_header_bytes": 2048, "shutdown_timeout_seconds": 0.05}
        async with kit.serving(site.server_tls(), hold, **settings) as served:
            client = await http2_client(site, served.port)
            fill(client)
            events = await client.events_until(h2.events.ConnectionTerminated)
            client.writer.close()
            return events

    def too_many(client: Any) -> None:
        for stream_id in (1, 3, 5):
            client.request(stream_id)

    def too_long(client: Any) -> None:
        client.request(1, extra=[(f"x-{number}", "v" * 200) for number in range(20)])

    for fill in (too_many, too_long):
        assert any(isinstance(event, h2.events.ConnectionTerminated) for event in run(scenario(fill)))


def test_a_listener_without_tls_serves_in_clear_and_without_extension(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        bound = kit.bind_socket("127.0.0.1:0")
        listener = kit.Listener(kit.echo, bound, limits=kit.ListenerLimits())
        listener.start()
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{bound.getsockname()[1]}/crl")
        await listener.drain()
        return answer.json()

    seen = run(scenario())
    assert (seen["scheme"], seen["path"], seen["tls"], seen["client"]) == ("http", "/crl", None, None)


def test_an_application_that_crashes_is_500_and_the_connection_goes_on(
    run: Any, site: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/crash":
            raise RuntimeError("broken on purpose")
        await kit.echo(scope, receive, send)

    async def scenario() -> Any:
        async with (
            kit.serving(site.server_tls(), crash) as served,
            httpx.AsyncClient(verify=site.client_context()) as client,
        ):
            url = f"https://localhost:{served.port}"
            return [(await client.get(url + path)).status_code for path in ("/crash", "/fine")]

    assert run(scenario()) == [500, 200]
    assert "broken on purpose" in caplog.text


def test_the_client_context_of_these_tests_verifies_the_server(site: Any) -> None:
    assert site.client_context().verify_mode is ssl.CERT_REQUIRED
