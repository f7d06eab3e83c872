"""Requests and responses between ASGI and the EST operations: no framework, few and short headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from kipuka_core.errors import BodyTimeout, BodyTooLarge, Malformed

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PIECE_BYTES = 1 << 16
_DISCARDED_AT_MOST = 1 << 20
"""How much of a body that is too long is still read, so that its sender gets to see the answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer; Content-Length is always sent (protocol.md: a Java client needs it)."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())

    async def send(self, send: Send, *, with_body: bool = True) -> None:
        """Send it over ASGI; without its body for HEAD.

        A long body goes in pieces, each when the client has taken the one before: what waits for slow clients is not a
        whole CRL for each.
        """
        headers = [(b"content-length", str(len(self.body)).encode())]
        if self.content_type:
            headers.append((b"content-type", self.content_type.encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": [*headers, *self.headers]})
        body = self.body if with_body else b""
        for start in range(0, len(body) - _PIECE_BYTES, _PIECE_BYTES):
            await send({"type": "http.response.body", "body": body[start : start + _PIECE_BYTES], "more_body": True})
        rest = (max(len(body), 1) - 1) // _PIECE_BYTES * _PIECE_BYTES
        await send({"type": "http.response.body", "body": body[rest:]})


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this name (lower case), decoded as Latin-1, or None."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """The request body, chunked or not.

    Raises BodyTooLarge, BodyTimeout, or Malformed for a client that hung up in the middle.
    """
    declared = header(scope, b"content-length")
    too_large = BodyTooLarge(f"the body is longer than the {max_bytes} bytes that are accepted here")
    if declared is not None and declared.isdigit() and int(declared) > max_bytes + _DISCARDED_AT_MOST:
        raise too_large
    try:
        async with asyncio.timeout(timeout_seconds):
            body = await _read(receive, max_bytes)
    except TimeoutError:
        raise BodyTimeout(f"the body did not arrive within {timeout_seconds:g} seconds") from None
    if body is None:
        raise too_large
    return body


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """The body, or None for one that is too long."""
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Malformed("the connection was closed before the body was complete", code="client_gone")
        part = message.get("body", b"")
        length += len(part)
        if length <= max_bytes:
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if length <= max_bytes else None
        if length > max_bytes + _DISCARDED_AT_MOST:
            return None
