"""A real listener on 127.0.0.1 with a PKI behind it, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives import serialization

from kipuka_core.edges.serving.handshake import FailedHandshake
from kipuka_core.edges.serving.listener import Listener, ListenerLimits
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.tls.context import ServerTls, build_context
from kipuka_core.edges.tls.peer import PeerReader
from kipuka_core.edges.tls.scope import connection_from_scope, describe_with
from kipuka_core.errors import CsrRefused
from kipuka_core.testing.pki import Authority, Leaf, make_root

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    """Run a coroutine to its end on each of the two event loops."""

    def runner(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop:
            return loop.run(asyncio.wait_for(coroutine, 30))

    return runner


def write_identity(directory: Path, leaf: Leaf, *, password: bytes | None = None) -> tuple[str, str]:
    """Certificate chain (leaf and intermediates) and key as two PEM files."""
    name = f"{leaf.certificate.serial_number:x}"
    certificate_file, key_file = directory / f"{name}.pem", directory / f"{name}.key"
    chain = (leaf.certificate, *leaf.chain[:-1]) if len(leaf.chain) > 1 else (leaf.certificate,)
    certificate_file.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key_file.write_bytes(
        leaf.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return str(certificate_file), str(key_file)


@dataclass
class Site:
    """One operator's PKI and files."""

    directory: Path
    root: Authority = field(default_factory=make_root)

    def __post_init__(self) -> None:
        self.devices = self.root.subordinate("Device CA")
        self.server_files = write_identity(self.directory, self.root.server())
        self.ca_file = self.directory / "root.pem"
        self.ca_file.write_bytes(self.root.pem)

    def server_tls(self, **changes: Any) -> ServerTls:
        certificate_file, key_file = self.server_files
        values: dict[str, Any] = {
            "certificate_file": certificate_file,
            "key_file": key_file,
            "anchors": (self.root.certificate,),
        }
        return ServerTls(**(values | changes))

    def client_context(self, device: Leaf | None = None, version: str = "1.3") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        number = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = number
        if device:
            context.load_cert_chain(*write_identity(self.directory, device))
        return context


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


async def read_body(receive: Any) -> bytes:
    body: bytes = b""
    while True:
        message: dict[str, Any] = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Say as JSON what the application knows of the connection."""
    body = await read_body(receive)
    connection = connection_from_scope(scope, datetime.now(UTC))
    seen: dict[str, Any] = {
        "type": scope["type"],
        "path": scope["path"],
        "http_version": scope["http_version"],
        "scheme": scope["scheme"],
        "body_length": len(body),
        "tls": scope["extensions"].get("tls"),
        "client": None,
        "chain": [],
    }
    if connection is not None:
        leaf = connection.client_certificate
        seen["client"] = leaf.subject.rfc4514_string() if leaf else None
        seen["chain"] = [c.subject.rfc4514_string() for c in connection.client_chain]
        seen["tls_version"] = connection.tls_version
        seen["user_agent"] = connection.user_agent
        seen["source_address"] = connection.source_address
        try:
            seen["binding"] = connection.channel_binding().hex()
        except CsrRefused as refusal:
            seen["binding"] = refusal.code
    await answer(send, json.dumps(seen).encode())


@dataclass
class Served:
    """A running listener and what it reported."""

    listener: Listener
    port: int
    reader: PeerReader
    failures: list[FailedHandshake]
    contexts: list[ssl.SSLContext]

    async def failure(self) -> FailedHandshake:
        """The next failed handshake."""
        await self.until(lambda: bool(self.failures))
        return self.failures.pop(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Poll: what is waited for is state of the listener, which signals nothing."""
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    settings: ServerTls,
    app: Any = echo,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    admit: Any = None,
    proxies: Sequence[str] = (),
    **limits: Any,
) -> AsyncIterator[Served]:
    """A listener on a free port, drained at the end. ``contexts[0]`` is the context of the next connection."""
    contexts = [build_context(settings)]
    reader = PeerReader(settings.anchors, required=settings.client_auth == "required", clock=clock)
    failures: list[FailedHandshake] = []
    values = {"shutdown_timeout_seconds": 5.0} | limits
    bound = bind_socket("127.0.0.1:0")
    port = bound.getsockname()[1]
    listener = Listener(
        app,
        bound,
        limits=ListenerLimits(**values),
        ssl_context=lambda: contexts[0],
        describe=describe_with(reader),
        admit=admit,
        proxies=[ip_network(each) for each in proxies],
        report=failures.append,
    )
    listener.start()
    try:
        yield Served(listener, port, reader, failures, contexts)
    finally:
        await listener.drain()


@dataclass
class Reply:
    """What a client saw."""

    status: int
    body: bytes
    session: ssl.SSLSession | None
    session_reused: bool
    tls_unique: bytes | None

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@contextmanager
def tls_client(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
    ):
        yield client


def get(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None, path: str = "/") -> Reply:
    """One request on a new connection, by a blocking client."""
    with tls_client(port, context, session) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        raw = b"".join(iter(lambda: client.recv(65536), b""))
        head, _, body = raw.partition(b"\r\n\r\n")
        unique = client.get_channel_binding("tls-unique")
        return Reply(int(head.split()[1]), body, client.session, bool(client.session_reused), unique)


async def fetch(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None, path: str = "/") -> Reply:
    """:func:`get` in a thread, so that the server's loop runs meanwhile."""
    return await asyncio.to_thread(get, port, context, session, path)


@pytest.fixture(scope="session")
def kit() -> Any:
    """The helpers of this file, for tests that cannot import it."""
    return sys.modules[__name__]
