"""HTTP over one connection: hypercorn's TCPServer and protocols, with kipuka's timeouts and without protocol switches.

What is changed, and why:

* an ``Upgrade`` (WebSocket, h2c) is ignored, as RFC 9110 7.8 allows, HTTP/2 CONNECT is refused: every request of a
  connection stays an HTTP request that carries the connection's TLS extension;
* head and first body part of an HTTP/1.1 response leave in one write, which is one TLS record;
* the timeouts run on one timer per connection, which is moved and not made anew; hypercorn starts tasks per request;
* a request body that goes on after its HTTP/2 stream was answered is discarded; hypercorn 0.18 ends the connection;
* an HTTP/2 client that takes no response, or resets stream after stream, loses its connection and holds nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import h11
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ConnectionState

from kipuka_core.edges.serving.inbox import Requests
from kipuka_core.edges.serving.watchdog import Watchdog

_HTTP_1_VERSIONS = (b"1.0", b"1.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTimeouts:
    """How long a client may take, in seconds.

    ``header_seconds``: from the connection, or from the first byte of a further request, to a complete request head.
    ``idle_seconds``: from a response to the next request, which HTTP/2 frames that are no request do not prolong.
    ``request_seconds``: from the newest request head to the end of all responses, the client's reading included.
    """

    header_seconds: float = 10.0
    idle_seconds: float = 30.0
    request_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """What all connections of a listener share; ``server`` is the address that it listens on."""

    config: Config
    context: WorkerContext
    timeouts: HttpTimeouts
    server: tuple[str, int]


class Http1(H11Protocol):
    """HTTP/1.1 that never becomes another protocol."""

    _head = b""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn switches to HTTP/2 here (h2c upgrade, prior knowledge); ALPN is the only way to it."""

    async def _create_stream(self, request: h11.Request) -> None:
        if request.http_version not in _HTTP_1_VERSIONS:
            await self._send_error_response(505)
            await self.send(Closed())
            return
        if {b"content-length", b"transfer-encoding"} <= {bytes(name) for name, _ in request.headers}:
            await self._send_error_response(400)  # two lengths for one body: an attempt at smuggling (RFC 9112 6.1)
            await self.send(Closed())
            return
        if _head_bytes(request) > self.config.h11_max_incomplete_size:  # h11 looks only at heads that are incomplete
            await self._send_error_response(431)
            await self.send(Closed())
            return
        await super()._create_stream(_without_upgrade(request))

    async def _send_h11_event(self, event: Any) -> None:
        try:
            data = self._head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data
            return
        self._head = b""
        if data:
            await self.send(RawData(data=data))


class Http2(H2Protocol):
    """HTTP/2 for requests only."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        codes = h2.settings.SettingCodes
        self.connection.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: self.config.h2_max_concurrent_streams,
                codes.MAX_HEADER_LIST_SIZE: self.config.h2_max_header_list_size,
            },
        )
        self.connection.decoder.max_header_list_size = self.config.h2_max_header_list_size
        self._given_up = 0

    async def handle(self, event: Event) -> None:
        """As before; a response that its client left no room for does not outlive the connection."""
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.StreamReset) and event.stream_id in self.streams:
                # Each costs this server a request and its client nothing, not even one of its concurrent streams
                # ("rapid reset", CVE-2023-44487).
                self._given_up += 1
                if self._given_up > self.config.h2_max_concurrent_streams:
                    self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                    await self._flush()
                    await self.send(Closed())
                    return
            if isinstance(event, h2.events.RequestReceived) and _is_not_for_us(event):
                self._reset(event.stream_id)
            elif isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                self._discard(event)
            else:
                await super()._handle_events([event])
        await self._flush()

    def _reset(self, stream_id: int) -> None:
        try:
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
        except h2.exceptions.ProtocolError:  # the client closed it in the same read
            return

    def _discard(self, event: h2.events.DataReceived) -> None:
        try:
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        except h2.exceptions.ProtocolError:  # the stream is closed; the connection's window was counted all the same
            return


class HttpConnection(TCPServer):
    """One accepted connection, from its first request to its end."""

    def __init__(
        self,
        app: Any,
        settings: HttpSettings,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        client: tuple[str, int],
    ) -> None:
        """``app`` is called as hypercorn calls it, see :func:`with_extensions`."""
        loop = asyncio.get_running_loop()
        super().__init__(app, loop, settings.config, settings.context, {}, reader, writer)
        self._timeouts = settings.timeouts
        self._addresses = client, settings.server
        self._watchdog = Watchdog(loop, self._expire)
        self._waits_for_request = True
        self._has_served = False

    async def run(self) -> None:
        """Serve until either end closes; a client that goes away is not an error."""
        ssl_object = self.writer.get_extra_info("ssl_object")
        alpn = ssl_object.selected_alpn_protocol() if ssl_object else None
        kind: Any = Http2 if alpn == "h2" else Http1
        client, server = self._addresses
        try:
            async with Requests(self.loop) as task_group:
                self.protocol = kind(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState({}),
                    ssl_object is not None,
                    client,
                    server,
                    self.protocol_send,
                )
                await self.protocol.initiate()
                self._watchdog.set(self._timeouts.header_seconds)
                await self._read_data()
        except OSError:
            return
        finally:
            self._watchdog.cancel()
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Called by the protocol: bytes to write, the end, or a change between busy and waiting."""
        if not isinstance(event, Updated):
            await super().protocol_send(event)
            return
        self._waits_for_request = event.idle
        if not event.idle:
            self._has_served = True
            self._watchdog.set(self._timeouts.request_seconds)
        elif self.context.terminated.is_set():
            self.writer.close()
        else:
            self._watchdog.set(self._timeouts.idle_seconds)

    def _expire(self) -> None:
        if self._waits_for_request:
            self.writer.close()
        else:  # closing would wait for the client to take what is written already
            self.abort()

    def drain(self) -> None:
        """Close now when no request is running; otherwise after its response."""
        if self._waits_for_request:
            self.writer.close()

    def abort(self) -> None:
        """Close without a goodbye."""
        self.writer.transport.abort()

    async def _read_data(self) -> None:
        while not self.reader.at_eof():
            try:
                data = await self.reader.read(MAX_RECV)
            except OSError:
                break
            if self._waits_for_request and self._has_served and isinstance(self.protocol, Http1):
                self._watchdog.set_at_most(self._timeouts.header_seconds)
            await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())


def _is_not_for_us(request: h2.events.RequestReceived) -> bool:
    """CONNECT, and methods and paths that are not ASCII, which hypercorn cannot decode."""
    pseudo = {bytes(name): bytes(value) for name, value in request.headers if name in {b":method", b":path"}}
    return pseudo.get(b":method", b"").upper() == b"CONNECT" or not all(map(bytes.isascii, pseudo.values()))


def _head_bytes(request: h11.Request) -> int:
    return len(request.target) + sum(len(name) + len(value) + len(": \r\n") for name, value in request.headers)


def _without_upgrade(request: h11.Request) -> h11.Request:
    if all(name != b"upgrade" for name, _ in request.headers):
        return request
    return h11.Request(
        method=request.method,
        target=request.target,
        http_version=request.http_version,
        headers=[(name, value) for name, value in request.headers if name != b"upgrade"],
    )


def hypercorn_config(*, max_header_bytes: int, max_concurrent_streams: int, logger: Any) -> Config:
    """Hypercorn's settings for every connection of a listener."""
    config = Config()
    config.h11_max_incomplete_size = max_header_bytes
    config.h2_max_header_list_size = max_header_bytes
    config.h2_max_concurrent_streams = max_concurrent_streams
    config.include_server_header = False
    config.errorlog = logger
    config.accesslog = None
    return config


def with_extensions(app: Any, extensions: Mapping[str, Any]) -> Any:
    """Hypercorn's way of calling an ASGI app, with the connection's extensions in the scope of each request."""

    def call(scope: Any, receive: Any, send: Any, _sync_spawn: Any, _call_soon: Any) -> Any:
        scope["extensions"].update(extensions)
        return app(scope, receive, send)

    return call
