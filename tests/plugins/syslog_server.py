"""A syslog server for tests: UDP, TCP with octet counting, TLS. It can be taken away and put back on its port."""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any, Self

_MESSAGE = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>\S+) (?P<app>\S+) (?P<pid>\S+) (?P<id>\S+)"
    rb' \[(?P<sd>(?:[^"\]]|"(?:\\.|[^"\\\]])*")*)\] (?P<body>.*)',
    re.DOTALL,
)
_PARAM = re.compile(rb' ([!-<>-~]{1,32})="((?:\\.|[^"\\\]])*)"')


@dataclass(frozen=True, slots=True)
class Message:
    """One message, taken apart as RFC 5424 6 has it."""

    priority: int
    header: tuple[str, ...]
    sd_id: str
    params: dict[str, str]
    body: dict[str, Any]

    @classmethod
    def parse(cls, content: bytes) -> Message:
        match = _MESSAGE.fullmatch(content)
        assert match, content
        data = match["sd"]
        params = {name.decode(): re.sub(rb"\\(.)", rb"\1", value).decode() for name, value in _PARAM.findall(data)}
        header = tuple(match[name].decode() for name in ("time", "host", "app", "pid", "id"))
        sd_id = data.partition(b" ")[0].decode()
        return cls(int(match["priority"]), header, sd_id, params, json.loads(match["body"]))


class SyslogServer:
    """Reads what arrives in a thread. ``messages`` waits for nothing: it is what the host has received so far."""

    def __init__(self, protocol: str, context: ssl.SSLContext | None = None) -> None:
        self._kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        self._context = context
        self._lock = Lock()
        self._received: list[bytes] = []
        self._buffers: dict[socket.socket, bytes] = {}
        self._listening: socket.socket | None = None
        self.port = 0
        self.put_back()
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.take_away()

    def take_away(self) -> None:
        """Nobody listens any more, and every connection is ended."""
        with self._lock:
            self.end_connections()
            if self._listening is not None:
                self._listening.close()
                self._listening = None

    def end_connections(self) -> None:
        for connection in self._buffers:
            connection.close()
        self._buffers.clear()

    def put_back(self) -> None:
        with self._lock:
            self._listening = socket.socket(socket.AF_INET, self._kind)
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._listening.bind(("127.0.0.1", self.port))
            self.port = self._listening.getsockname()[1]
            if self._kind == socket.SOCK_STREAM:
                self._listening.listen(16)

    def messages(self) -> list[Message]:
        """What has arrived, in order."""
        while True:
            with self._lock:
                if not self._readable(0):
                    return [Message.parse(content) for content in self._received]

    def restart(self) -> None:
        """End every connection as a server does that is restarted."""
        with self._lock:
            self.end_connections()

    def _readable(self, seconds: float) -> list[socket.socket]:
        sockets = [*self._buffers, *([self._listening] if self._listening else [])]
        return select.select(sockets, (), (), seconds)[0]

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            with self._lock:
                for readable in self._readable(0):
                    self._read(readable)

    def _read(self, readable: socket.socket) -> None:
        if readable is not self._listening:
            self._read_stream(readable)
        elif self._kind == socket.SOCK_DGRAM:
            self._received.append(readable.recv(65536))
        else:
            self._accept(readable)

    def _accept(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.settimeout(10)
        if self._context is not None:
            try:
                connection = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        self._buffers[connection] = b""

    def _read_stream(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        data, is_open = b"", True
        with suppress(BlockingIOError, ssl.SSLWantReadError):
            try:
                while part := connection.recv(65536):
                    data += part
                is_open = False
            except ConnectionError:
                is_open = False
        buffer = self._buffers[connection] + data
        while match := re.match(rb"([1-9]\d*) ", buffer):  # RFC 6587 3.4.1: MSG-LEN SP SYSLOG-MSG
            end = match.end() + int(match[1])
            if len(buffer) < end:
                break
            self._received.append(buffer[match.end() : end])
            buffer = buffer[end:]
        if is_open:
            self._buffers[connection] = buffer
        else:
            connection.close()
            del self._buffers[connection]
