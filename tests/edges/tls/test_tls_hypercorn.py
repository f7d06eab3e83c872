"""Plain hypercorn as the server: the peer comes by the context variable, and only to its own requests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.tls.hypercorn_peer import install, with_peer_from_context
from kipuka_core.edges.tls.peer import PeerReader
from kipuka_core.edges.tls.scope import describe_with
from kipuka_core.testing.pki import make_root


def with_lifespan(app: Any) -> Any:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    return wrapped


@asynccontextmanager
async def plain_hypercorn(site: Any, kit: Any, settings: Any, reader: Any, *, insecure: Any = False) -> Any:
    bound = bind_socket("127.0.0.1:0")
    bound.listen()
    port = bound.getsockname()[1]
    context = kit.build_context(settings)
    install(context)
    config = Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.errorlog = None
    config.graceful_timeout = 1
    if not insecure:
        config.certfile, config.keyfile = site.server_files
        config.create_ssl_context = lambda: context  # type: ignore[method-assign]
    stop = asyncio.Event()
    app = with_lifespan(with_peer_from_context(kit.echo, describe_with(reader)))
    server = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield port
    finally:
        stop.set()
        await server


def test_every_request_has_the_client_of_its_own_connection(run: Any, site: Any, kit: Any) -> None:
    devices = [site.devices.leaf(f"plain-{number}") if number % 3 else None for number in range(45)]

    async def two_requests(port: int, number: int) -> None:
        context = site.client_context(devices[number], "1.3" if number % 2 else "1.2")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            seen = json.loads(await reader.readexactly(length))
            assert seen["client"] == (f"CN=plain-{number}" if devices[number] else None)
            assert seen["tls"]["tls_version"] in (0x0303, 0x0304)
        writer.close()

    async def scenario() -> None:
        settings = site.server_tls()
        async with plain_hypercorn(site, kit, settings, PeerReader(settings.anchors)) as port:
            await asyncio.gather(*(two_requests(port, number) for number in range(len(devices))))

    run(scenario())


def test_a_request_in_clear_has_no_connection_to_read(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        settings = site.server_tls()
        async with plain_hypercorn(site, kit, settings, PeerReader(settings.anchors), insecure=True) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            body = (await reader.read()).split(b"\r\n\r\n")[1]
            writer.close()
            return json.loads(body)

    seen = run(scenario())
    assert seen["tls"] is None
    assert seen["client"] is None


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_resumed_session_without_valid_certificate_is_403_in_required_mode(
    run: Any, site: Any, kit: Any, version: str
) -> None:
    context = site.client_context(site.devices.leaf("plain-required"), version)

    async def scenario() -> Any:
        settings = site.server_tls(client_auth="required")
        reader = PeerReader(settings.anchors, required=True)
        async with plain_hypercorn(site, kit, settings, reader) as port:
            first = await kit.fetch(port, context)
            reader.trust([make_root("Another CA").certificate])
            return first, await kit.fetch(port, context, first.session)

    first, second = run(scenario())
    assert first.json["client"] == "CN=plain-required"
    assert second.session_reused
    assert second.status == 403
    assert second.body.startswith(b"a client certificate is required")
