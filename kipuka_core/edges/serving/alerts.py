"""The TLS alert that tells a client why its handshake failed (RFC 8446 6.2, RFC 5246 7.2).

OpenSSL writes it, but asyncio and uvloop close the transport without sending what OpenSSL wrote last (CPython 3.11 to
3.14), so that clients see a reset connection and nobody learns that a certificate was missing or unknown. Here the SSL
object sends it itself, on the socket of the connection whose task it runs in.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from contextvars import ContextVar
from typing import Any

from kipuka_core.edges.serving.handshake import NOT_TLS_REASONS, NotTls

_FIRST_BYTES = 16
_HANDSHAKE_RECORD = b"\x16"
accepted_socket: ContextVar[socket.socket | None] = ContextVar("kipuka_accepted_socket", default=None)
"""Set in a connection's task before its handshake; the callbacks of the handshake inherit it."""


class AlertingSSLObject(ssl.SSLObject):
    """An SSL object that sends its last words when the handshake fails, and knows the first ones of its client."""

    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _first_bytes: bytes

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **options: Any) -> Any:
        created = super()._create(incoming, outgoing, *arguments, **options)  # type: ignore[misc]
        created._incoming, created._outgoing = incoming, outgoing  # noqa: SLF001 - an object of this class
        created._first_bytes = b""  # noqa: SLF001
        return created

    def do_handshake(self) -> None:
        """As before; a failure leaves the socket with the alert sent. Raises NotTls too."""
        self._look()
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._send_alert()
            if error.reason in NOT_TLS_REASONS and self._first_bytes[:1] != _HANDSHAKE_RECORD:
                raise NotTls(self._first_bytes) from error
            raise

    def _look(self) -> None:
        """Keep a copy of the first bytes: OpenSSL takes them, and says little of what is no TLS record."""
        if len(self._first_bytes) < _FIRST_BYTES and self._incoming.pending:
            arrived = self._incoming.read()
            self._incoming.write(arrived)
            self._first_bytes = (self._first_bytes + arrived)[:_FIRST_BYTES]

    def _send_alert(self) -> None:
        client = accepted_socket.get()
        if client is not None:
            # The socket does not block; a client that takes nothing gets nothing.
            with contextlib.suppress(OSError):
                client.send(self._outgoing.read())
