"""http-01 (RFC 8555 8.3): by a server of its own, or by files that another one serves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kipuka_acme.challenges import Answering, Solver
from kipuka_core import Services, Unavailable

_PATH = "/.well-known/acme-challenge/"
_REQUEST = re.compile(rb"(GET|HEAD) " + _PATH.encode() + rb"([A-Za-z0-9_-]{16,256}) HTTP/1\.[01]\r\n", re.ASCII)
_LONGEST_HEAD_BYTES = 8192
_SECONDS = 5
_MOST_AT_ONCE = 100


class Responder(Solver):
    """Answers for every token: an answer holds the token and the account key's thumbprint, which is no secret.

    So nothing is shared between processes, and any of them answers for an order that another one looks after. Nobody
    but the holder of the account's key gains anything from an answer.
    """

    challenge_type = "http-01"

    def __init__(self, thumbprint: str) -> None:
        self._thumbprint = thumbprint
        self._at_once = 0

    async def present(self, answering: Answering) -> None:
        """It is there already."""

    async def cleanup(self, answering: Answering) -> None:
        """Nothing was put anywhere."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, and the connection ends."""
        if self._at_once >= _MOST_AT_ONCE:
            writer.close()
            return
        self._at_once += 1
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever it was wants nothing of this
        finally:
            self._at_once -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        match = _REQUEST.match(head)
        if match is None:
            return _response("404 Not Found", b"")
        body = match[2] + b"." + self._thumbprint.encode()
        return _response("200 OK", body, with_body=match[1] == b"GET")


def _response(status: str, body: bytes, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")


@asynccontextmanager
async def open_responder(host: str, port: int, thumbprint: str) -> AsyncIterator[Responder]:
    """Listens until the end; every worker process on the same port. Raises OSError."""
    responder = Responder(thumbprint)
    server = await asyncio.start_server(
        responder.serve, host, port, reuse_port=True, limit=_LONGEST_HEAD_BYTES, backlog=_MOST_AT_ONCE
    )
    try:
        yield responder
    finally:
        server.close()
        await server.wait_closed()


class Webroot(Solver):
    """Files in a directory that another server serves."""

    challenge_type = "http-01"

    def __init__(self, webroot: Path, services: Services) -> None:
        self._directory = webroot / _PATH.strip("/")
        self._run_blocking = services.run_blocking

    async def present(self, answering: Answering) -> None:
        """Write the file, readable for all."""
        await self._run_blocking(self._write, answering.challenge.token, answering.key_authorization)

    async def cleanup(self, answering: Answering) -> None:
        """Remove it."""
        await self._run_blocking(self._remove, answering.challenge.token)

    def _write(self, token: str, text: str) -> None:
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            file = self._directory / token
            file.write_text(text, encoding="ascii")
            file.chmod(0o644)
        except OSError as error:
            raise Unavailable("this server cannot write the answer to a challenge") from error

    def _remove(self, token: str) -> None:
        try:
            (self._directory / token).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable("this server cannot remove the answer to a challenge") from error
