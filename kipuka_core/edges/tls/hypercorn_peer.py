"""The client's certificate under plain hypercorn, which gives its application none.

Hypercorn asks the SSL object for the ALPN protocol from the connection's own task, before it starts any request. That
call is where the object leaves itself in a context variable, which the tasks of the connection's requests inherit and
no other task sees. ``kipuka serve`` does not need this: its listener knows the SSL object.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from kipuka_core.edges.tls.peer import PeerRefused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class PeerSSLObject(ssl.SSLObject):
    """An SSL object that the requests of its own connection can find."""

    peer_extensions: dict[str, Any] | None = None

    def selected_alpn_protocol(self) -> str | None:
        """Called by hypercorn once per connection, in the connection's task."""
        _connection.set(self)
        return super().selected_alpn_protocol()


_connection: ContextVar[PeerSSLObject | None] = ContextVar("kipuka_tls_connection", default=None)


def install(context: ssl.SSLContext) -> None:
    """Make the connections of this context visible to :func:`with_peer_from_context`."""
    context.sslobject_class = PeerSSLObject


def with_peer_from_context(app: AsgiApp, describe: Callable[[ssl.SSLObject], dict[str, Any]]) -> AsgiApp:
    """Wrap ``app``: requests of a TLS connection get the extensions of ``describe``, others stay as they are."""

    async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
        connection = _connection.get()
        if scope["type"] != "http" or scope.get("scheme") != "https" or connection is None:
            await app(scope, receive, send)
            return
        try:
            if connection.peer_extensions is None:
                connection.peer_extensions = describe(connection)
        except PeerRefused as error:
            await _refuse(send, str(error))
            return
        extensions = {**(scope.get("extensions") or {}), **connection.peer_extensions}
        await app({**scope, "extensions": extensions}, receive, send)

    return with_peer


async def _refuse(send: Send, reason: str) -> None:
    body = f"{reason}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 403, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
