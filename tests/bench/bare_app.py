"""A bare ASGI function with the cryptography of an enrolment and nothing else, under kipuka's own listener.

What it costs beyond the cryptography is the price of TLS sockets, HTTP and ASGI in Python. What kipuka costs beyond it
is the price of authentication, policies, checks, records and events.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from kipuka_core.edges.serving.listener import Listener, ListenerLimits
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.serving.supervisor import run_event_loop
from tests.bench.floor import BareIssuer, server_context

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class BareApp:
    """Enrols whoever asks."""

    def __init__(self, issuer: BareIssuer) -> None:
        self._issuer = issuer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["path"].endswith("/cacerts"):
            answer = self._issuer.cacerts()
        else:
            answer = self._issuer.enrol(await _body(receive))
        headers = [
            (b"content-length", str(len(answer)).encode()),
            (b"content-type", b"application/pkcs7-mime; smime-type=certs-only"),
            (b"content-transfer-encoding", b"base64"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _serve(directory: Path, bound: socket.socket) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tls = server_context(directory)
    app = BareApp(BareIssuer(directory / "state" / "ca"))
    listener = Listener(app, bound, limits=ListenerLimits(), ssl_context=lambda: tls)
    listener.start()
    sys.stdout.write(f"{bound.getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    await listener.drain()
    return 0


def main(directory: Path) -> int:
    """Serve a deployment's CA on a free port, which is the one line on standard output, until SIGTERM."""
    return run_event_loop(lambda: _serve(directory, bind_socket("127.0.0.1:0")))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
