"""The accept loop of one bound socket.

Its own, because hypercorn's server gives the application no client certificate, swallows handshake errors and has one
SSL context for its lifetime. Here the context is asked for per connection, so that a reload is an assignment.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from hypercorn.asyncio.worker_context import WorkerContext

from kipuka_core.edges.serving.alerts import AlertingSSLObject, accepted_socket
from kipuka_core.edges.serving.handshake import FailedHandshake, HandshakeCause, classify
from kipuka_core.edges.serving.http import HttpConnection, HttpSettings, HttpTimeouts, hypercorn_config, with_extensions
from kipuka_core.edges.serving.proxy_protocol import ProxyClosed, ProxyHeaderMissing, read_header
from kipuka_core.edges.serving.seats import NoSeat, Seat, Seats
from kipuka_core.edges.serving.sockets import address_error, normal_address

_log = logging.getLogger(__name__)
_CLIENT_WENT_AWAY = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ECONNRESET, errno.EPERM})
_ACCEPT_PAUSE_SECONDS = 0.2
_ACCEPTS_PER_TURN = 16
_ABORT_SECONDS = 0.5
_TLS_CLOSE_SECONDS = 1.0
_LEAST_SECONDS = 0.001
_READ_BUFFER_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """What a listener gives to its clients, in connections, seconds and bytes."""

    max_connections: int = 4096
    max_connections_per_address: int = 1024
    handshake_timeout_seconds: float = 10.0
    header_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 30.0
    request_timeout_seconds: float = 300.0
    shutdown_timeout_seconds: float = 30.0
    max_header_bytes: int = 16384
    max_concurrent_streams: int = 100
    backlog: int = 1024


@dataclass(slots=True)
class ListenerCounters:
    """Since the start, except ``open``, which is now."""

    open: int = 0
    accepted: int = 0
    rejected_total: int = 0
    """Closed at once because of ``max_connections``."""
    rejected_address: int = 0
    """Closed at once because of ``max_connections_per_address``."""
    handshakes_failed: int = 0
    accept_errors: int = 0
    """Times that a connection could not be accepted, as when the process is out of file descriptors."""


class Listener:
    """Accepts connections on a bound socket and serves them to one ASGI app.

    ``ssl_context`` is called once per connection; None serves in clear. ``describe`` makes the scope extensions of a
    connection from its SSL object once, ``admit`` is awaited with them; an SSLError from either refuses the
    connection. ``proxies`` are the addresses whose connections begin with a PROXY protocol header. ``report`` is told
    of every failed handshake. ``where`` is the TOML path of the address. The app's lifespan is its owner's.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        bound: socket.socket,
        *,
        limits: ListenerLimits,
        ssl_context: Callable[[], ssl.SSLContext] | None = None,
        describe: Callable[[ssl.SSLObject], Mapping[str, Any]] = lambda _: {},
        admit: Callable[[Mapping[str, Any]], Awaitable[None]] | None = None,
        proxies: Sequence[IPv4Network | IPv6Network] = (),
        report: Callable[[FailedHandshake], object] = lambda _: None,
        where: str = "listen",
    ) -> None:
        self.counters = ListenerCounters()
        self._where = where
        self._app = app
        self._socket = bound
        self._limits = limits
        self._ssl_context = ssl_context
        self._describe = describe
        self._admit_peer = admit
        self._proxies = tuple(proxies)
        self._report = report
        self._settings = HttpSettings(
            config=hypercorn_config(
                max_header_bytes=limits.max_header_bytes,
                max_concurrent_streams=limits.max_concurrent_streams,
                logger=_log,
            ),
            context=WorkerContext(None),
            timeouts=HttpTimeouts(
                header_seconds=limits.header_timeout_seconds,
                idle_seconds=limits.idle_timeout_seconds,
                request_seconds=limits.request_timeout_seconds,
            ),
            server=bound.getsockname()[:2],
        )
        self._seats = Seats(total=limits.max_connections, per_address=limits.max_connections_per_address)
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshaking: set[asyncio.Task[None]] = set()
        self._connections: set[HttpConnection] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen and accept. Raises ConfigurationError when the address was taken since it was bound."""
        self._socket.setblocking(False)
        try:
            self._socket.listen(self._limits.backlog)
        except OSError as error:
            host, port = self._settings.server
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise address_error(address, error, self._where) from error
        self._accepting = asyncio.get_running_loop().create_task(self._accept_forever())

    async def drain(self) -> None:
        """Stop accepting, let running requests finish within the shutdown timeout, then close what is left."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        self._socket.close()
        await self._settings.context.terminated.set()
        for task in self._handshaking:
            task.cancel()
        for connection in self._connections:
            connection.drain()
        await self._wait_for_tasks(self._limits.shutdown_timeout_seconds)
        for connection in self._connections:
            connection.abort()
        # Hypercorn has to see the end first: an HTTP/2 request that is cancelled before would wait for its writer.
        await self._wait_for_tasks(_ABORT_SECONDS)
        for task in self._tasks:
            task.cancel()
        await self._wait_for_tasks(_ABORT_SECONDS)

    async def _wait_for_tasks(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _accept_forever(self) -> None:
        loop = asyncio.get_running_loop()
        turn = 0
        while True:
            try:
                accepted, address = await loop.sock_accept(self._socket)
            except OSError as error:
                if error.errno not in _CLIENT_WENT_AWAY:
                    # Out of descriptors or memory: the client stays in the backlog until something is free.
                    self.counters.accept_errors += 1
                    await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            self._admit(accepted, address)
            # With a full backlog sock_accept returns without letting anyone else run.
            turn = (turn + 1) % _ACCEPTS_PER_TURN
            if turn == 0:
                await asyncio.sleep(0)

    def _admit(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        host = normal_address(address[0])
        by_proxy = self._is_proxy(host)
        try:
            seat = self._seats.take(host, address[1], awaits_header=by_proxy)
        except NoSeat as full:
            self._count_rejected(full)
            accepted.close()
            return
        self.counters.accepted += 1
        self.counters.open = self._seats.open
        serve = self._serve_proxied if by_proxy else self._serve
        task = asyncio.get_running_loop().create_task(serve(accepted, seat))
        self._tasks.add(task)
        self._handshaking.add(task)
        task.add_done_callback(lambda done: self._forget(done, seat))

    def _is_proxy(self, host: str) -> bool:
        return bool(self._proxies) and any(ip_address(host) in network for network in self._proxies)

    def _count_rejected(self, full: NoSeat) -> None:
        if full.in_all:
            self.counters.rejected_total += 1
        else:
            self.counters.rejected_address += 1

    def _forget(self, task: asyncio.Task[None], seat: Seat) -> None:
        self._tasks.discard(task)
        self._handshaking.discard(task)
        self._seats.leave(seat)
        self.counters.open = self._seats.open
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection from %s ended by an internal error", seat.host, exc_info=error)

    async def _serve_proxied(self, accepted: socket.socket, seat: Seat) -> None:
        """Serve a connection of a load balancer: its header, then the same as any other's."""
        deadline = asyncio.get_running_loop().time() + self._limits.handshake_timeout_seconds
        with contextlib.ExitStack() as unless_served:
            unless_served.callback(accepted.close)
            try:
                is_local = await self._read_proxy_header(accepted, seat, deadline)
            except ProxyClosed:
                return
            except NoSeat as full:
                self._count_rejected(full)
                return
            except OSError as error:
                self._fail(seat.host, error)
                return
            unless_served.pop_all()
        await self._serve(accepted, seat, deadline=deadline, is_local=is_local)

    async def _read_proxy_header(self, accepted: socket.socket, seat: Seat, deadline: float) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                header = await read_header(accepted)
        except TimeoutError as error:
            raise ProxyHeaderMissing("it did not arrive in time") from error
        if header.client is None:
            self._seats.is_of_balancer(seat)
        else:
            self._seats.is_of(seat, header.client.host, header.client.port)
        return header.is_local

    async def _serve(
        self, accepted: socket.socket, seat: Seat, *, deadline: float | None = None, is_local: bool = False
    ) -> None:
        reader = asyncio.StreamReader(limit=_READ_BUFFER_BYTES)
        try:
            writer = await self._secure(accepted, reader, deadline)
        except (OSError, EOFError) as error:
            self._fail(seat.host, error, is_local=is_local)
            return
        try:
            extensions = await self._extensions_of(writer, seat.host)
            if extensions is not None:
                app, client = with_extensions(self._app, extensions), (seat.host, seat.port)
                await self._serve_http(HttpConnection(app, self._settings, reader, writer, client=client))
        except OSError:
            return  # the client did not say goodbye in time
        finally:
            writer.transport.abort()

    async def _extensions_of(self, writer: asyncio.StreamWriter, host: str) -> Mapping[str, Any] | None:
        ssl_object = writer.get_extra_info("ssl_object")
        if ssl_object is None:
            return {}
        try:
            extensions = self._describe(ssl_object)
            if self._admit_peer is not None:
                await self._admit_peer(extensions)
        except ssl.SSLError as error:
            self._fail(host, error)
            return None
        else:
            return extensions

    async def _serve_http(self, connection: HttpConnection) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._handshaking.discard(task)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _secure(
        self, accepted: socket.socket, reader: asyncio.StreamReader, deadline: float | None
    ) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if self._ssl_context is not None:
            context = self._ssl_context()
            context.sslobject_class = AlertingSSLObject
            accepted_socket.set(accepted)
            timeout = self._limits.handshake_timeout_seconds
            tls = {
                "ssl": context,
                # Of which a PROXY protocol header has taken its part; none is not a number that asyncio accepts.
                "ssl_handshake_timeout": timeout if deadline is None else max(deadline - loop.time(), _LEAST_SECONDS),
                "ssl_shutdown_timeout": _TLS_CLOSE_SECONDS,
            }
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, **tls)
        return asyncio.StreamWriter(transport, protocol, reader, loop)

    def _fail(self, host: str, error: Exception, *, is_local: bool = False) -> None:
        failed = classify(host, error)
        if is_local and failed.cause is HandshakeCause.CLIENT_CLOSED:
            return  # a balancer's own connection that ends before TLS: it has seen that the server is there
        self.counters.handshakes_failed += 1
        self._report(failed)
