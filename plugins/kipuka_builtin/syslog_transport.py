"""Ways to a syslog server: UDP (RFC 5426), TCP with octet counting (RFC 6587 3.4.1), TLS (RFC 5425). Blocking."""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import sys
import termios
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import ECONNRESET, ETIMEDOUT

_MOST_READS = 64
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.0005, 0.02


class Transport(ABC):
    """One way to one server; for one thread at a time."""

    @abstractmethod
    def send(self, messages: Sequence[bytes]) -> None:
        """Return when the messages are as safe as this way can make them. Raises OSError."""

    def check(self) -> None:
        """Raise OSError when the server is not there, as far as this way can tell."""
        return

    def close(self) -> None:
        """Let go of the socket."""
        return


class Udp(Transport):
    """Sends and does not know whether anything arrives."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Hand the datagrams to the network. A refusal by the host, where the network tells of it, is an OSError."""
        if self._socket is None:
            family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.connect(address)
        try:
            for message in messages:
                self._socket.send(message)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Tcp(Transport):
    """A connection that is kept, and made again when it is lost.

    What was sent counts as safe once the other host's TCP has acknowledged it, which Linux can tell. Whether the syslog
    server has read it by then and written it down, nobody here knows: syslog has no acknowledgement.
    """

    def __init__(self, connect: Callable[[], socket.socket], timeout_seconds: float) -> None:
        self._connect = connect
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Send with octet counting and wait for the acknowledgement. After an OSError the connection is a new one.

        Messages of a call that failed are not sent again: some of them may have arrived.
        """
        deadline = time.monotonic() + self._timeout_seconds
        connection = self._connected()
        try:
            connection.settimeout(self._timeout_seconds)
            connection.sendall(b"".join(b"%d %s" % (len(message), message) for message in messages))
            _wait_for_acknowledgement(connection, deadline)
        except OSError:
            self.close()
            raise

    def check(self) -> None:
        """Connect, where there is no connection. Raises OSError."""
        self._connected()

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and _is_over(self._socket):
            self.close()  # the server was restarted: what is sent into this one would be lost
        if self._socket is None:
            self._socket = self._connect()
        return self._socket


def connect_tcp(address: tuple[str, int], timeout_seconds: float) -> socket.socket:
    """A connection. Raises OSError."""
    connection = socket.create_connection(address, timeout=timeout_seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect_tls(
    address: tuple[str, int], timeout_seconds: float, context: ssl.SSLContext, server_name: str
) -> socket.socket:
    """A connection whose server has shown a certificate for ``server_name``. Raises OSError."""
    connection = connect_tcp(address, timeout_seconds)
    try:
        return context.wrap_socket(connection, server_hostname=server_name)
    except OSError:
        connection.close()
        raise


def _is_over(connection: socket.socket) -> bool:
    """Whether the server has ended it. It says nothing else: whatever can be read is the end, or TLS housekeeping."""
    readable, _, _ = select.select((connection,), (), (), 0)
    if not readable:
        return False
    connection.settimeout(0)
    try:
        for _ in range(_MOST_READS):
            if not connection.recv(4096):
                return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return False


def _wait_for_acknowledgement(connection: socket.socket, deadline: float) -> None:
    """Wait until nothing is left that the other host has not acknowledged (SIOCOUTQ of Linux, tcp(7))."""
    if sys.platform != "linux":
        return
    pause = _FIRST_PAUSE_SECONDS
    while _unacknowledged_bytes(connection):
        if time.monotonic() >= deadline:
            raise OSError(ETIMEDOUT, "the syslog server's host does not acknowledge what was sent")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, "the connection to the syslog server was lost")
    if _is_over(connection):
        raise OSError(ECONNRESET, "the syslog server ended the connection; it may not have read what was sent")


def _unacknowledged_bytes(connection: socket.socket) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    return int(count)
