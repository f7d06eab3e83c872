"""Anonymous clients that send what costs the server more than it costs them: nothing of it stays when they are gone."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from kipuka_core.edges.serving.listener import Listener, ListenerLimits
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.testing.client import EstClient
from kipuka_core.testing.server import RunningServer, make_deployment, running_server, wait_until

BASE = b"/.well-known/est/"
MOST_CONNECTIONS = 4
LIMITS = f"""idle_timeout = "1s"
header_timeout = "1s"
body_timeout = "1s"
max_connections_per_address = {MOST_CONNECTIONS}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    deployment = make_deployment(tmp_path_factory.mktemp("attacked") / "deployment")
    deployment.configure("", server=LIMITS)
    with running_server(deployment) as running:
        yield running


def secured(server: RunningServer, alpn: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(server.deployment.root_pem))
    context.set_alpn_protocols([alpn])
    found: list[ssl.SSLSocket] = []

    def connected() -> bool:
        try:
            connection = socket.create_connection(("127.0.0.1", server.est_port), timeout=60)
            found.append(context.wrap_socket(connection, server_hostname="localhost"))
        except OSError:  # what an earlier connection held is not free yet
            return False
        return True

    wait_until(connected, what=lambda: "a connection")
    return found[0]


class Http2:
    """An HTTP/2 client that may be as rude as the test wants."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = secured(server, "h2")
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(validate_outbound_headers=False, header_encoding=None)
        )
        self.h2.initiate_connection()

    def request(self, stream: int, method: bytes, path: bytes, *, end_stream: bool = True) -> None:
        pseudo = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
        self.h2.send_headers(stream, pseudo, end_stream=end_stream)

    def send(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def read_until(self, kind: type[h2.events.Event]) -> Any:
        """The next event of this kind; None when the server closes before."""
        try:
            while data := self.socket.recv(65536):
                for event in self.h2.receive_data(data):
                    if isinstance(event, kind):
                        return event
                self.send()
        except OSError:  # a reset connection has ended too
            return None
        return None


def all_connections_are_free(server: RunningServer) -> bool:
    """Whether as many connections as one address may have can be had at the same time."""
    client = EstClient(server.est_port, server.deployment.root_pem)
    held = []
    try:
        for _ in range(MOST_CONNECTIONS):
            held.append(client.connect())
            if client.request("GET", "cacerts", connection=held[-1]).status != 200:
                return False
    except OSError:
        return False
    finally:
        for connection in held:
            connection.close()
    return True


def wants_an_answer_and_leaves_no_room_for_it(server: RunningServer) -> None:
    client = Http2(server)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.request(1, b"GET", BASE + b"cacerts")
    client.send()
    assert client.read_until(h2.events.ResponseReceived)
    client.socket.close()


def sends_a_body_that_nobody_reads(server: RunningServer) -> None:
    connection = secured(server, "http/1.1")
    head = b"POST " + BASE + b"nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"1\r\nA\r\n" * 1000)
    connection.close()


def sends_a_body_that_nobody_reads_over_http_2(server: RunningServer) -> None:
    client = Http2(server)
    client.request(1, b"POST", BASE + b"nowhere", end_stream=False)
    for _ in range(100):
        client.h2.send_data(1, b"A")
    client.send()
    client.socket.close()


@pytest.mark.parametrize(
    "attack",
    [
        wants_an_answer_and_leaves_no_room_for_it,
        sends_a_body_that_nobody_reads,
        sends_a_body_that_nobody_reads_over_http_2,
    ],
)
def test_a_client_that_is_gone_holds_no_connection(
    server: RunningServer, attack: Callable[[RunningServer], None]
) -> None:
    for _ in range(MOST_CONNECTIONS):
        attack(server)
    wait_until(lambda: all_connections_are_free(server), what=lambda: "free connections")


async def test_a_client_that_takes_no_answer_loses_its_connection() -> None:
    async def generous_app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(50_000_000)})

    listener = Listener(generous_app, bind_socket("127.0.0.1:0"), limits=ListenerLimits(request_timeout_seconds=0.2))
    address = listener._socket.getsockname()
    listener.start()
    _, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.to_thread(wait_until, lambda: listener.counters.accepted == 1 and listener.counters.open == 0)
    writer.transport.abort()
    await listener.drain()


def test_a_client_that_resets_stream_after_stream_is_sent_away(server: RunningServer) -> None:
    client = Http2(server)
    for number in range(300):
        client.request(2 * number + 1, b"POST", BASE + b"simpleenroll", end_stream=False)
        client.h2.reset_stream(2 * number + 1, h2.errors.ErrorCodes.CANCEL)
    client.send()

    goodbye = client.read_until(h2.events.ConnectionTerminated)

    assert goodbye.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    client.socket.close()
    wait_until(lambda: all_connections_are_free(server), what=lambda: "free connections")


@pytest.mark.parametrize(
    ("method", "path"),
    [(b"GET", BASE + b"\xc3\xa9"), (b"G\xff", BASE + b"cacerts"), (b"connect", BASE + b"cacerts")],
)
def test_a_method_or_path_that_cannot_be_served_ends_its_stream_and_no_more(
    server: RunningServer, method: bytes, path: bytes
) -> None:
    client = Http2(server)
    client.request(1, method, path)
    client.send()
    assert client.read_until(h2.events.StreamReset).stream_id == 1
    client.request(3, b"GET", BASE + b"cacerts")
    client.send()
    assert client.read_until(h2.events.StreamEnded).stream_id == 3
    client.socket.close()
    assert [line for line in server.log() if line.get("level") == "error"] == []


def test_two_lengths_for_one_body_end_the_connection(server: RunningServer) -> None:
    """RFC 9112 6.1: what follows could be a request that somebody in between did not see."""
    connection = secured(server, "http/1.1")
    hidden = b"GET " + BASE + b"cacerts HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lengths = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(hidden) + 5)
    connection.sendall(b"POST " + BASE + b"simpleenroll HTTP/1.1\r\nHost: localhost\r\n" + lengths + hidden)
    answer = b""
    while data := connection.recv(65536):
        answer += data
    connection.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
