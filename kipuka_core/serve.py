"""``kipuka serve``: a supervisor, worker processes for EST, and one process for the admin listener."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from kipuka_core.assemble import Assembly, assemble, utc_now
from kipuka_core.config import Config
from kipuka_core.edges import log
from kipuka_core.edges.http.admin import admin_app
from kipuka_core.edges.serving.handshake import HandshakeFailed
from kipuka_core.edges.serving.listener import Listener, ListenerLimits
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.serving.supervisor import (
    Supervisor,
    SupervisorEvent,
    SupervisorEventKind,
    SupervisorLimits,
    run_event_loop,
)
from kipuka_core.edges.serving.worker import WorkerLink, WorkerSpec
from kipuka_core.edges.tls.context import ServerTls, build_context
from kipuka_core.edges.tls.peer import PeerReader
from kipuka_core.edges.tls.scope import describe_with
from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.listeners import admin_tls, est_tls, inspect_certificates
from kipuka_core.model.event import ServerStarted, ServerStopped

logger = log.get_logger()
_KILL_AFTER_SHUTDOWN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the listeners are bound; a port of 0 in the configuration is a real one here."""

    est: tuple[str, int]
    admin: tuple[str, int]


def serve(config: Config, *, announce: Callable[[Addresses], None] = lambda _: None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    ``announce`` is called once, in the supervisor, when every process serves. Raises ConfigurationError for addresses
    that cannot be bound; what else cannot be opened is one line on standard error and exit code 1.
    """
    log.configure()
    est_socket = bind_socket(str(config.server.listen), "server.listen")
    admin_socket = bind_socket(str(config.server.admin_listen), "server.admin_listen")
    addresses = Addresses(est_socket.getsockname()[:2], admin_socket.getsockname()[:2])
    baton = _ErrorBaton()
    specs = [
        WorkerSpec(f"est-{number}", (est_socket,), _worker(_serve_est, config, est_socket, baton, is_first=number == 1))
        for number in range(1, config.server.workers + 1)
    ]
    specs.append(
        WorkerSpec("admin", (admin_socket,), _worker(_serve_admin, config, admin_socket, baton, is_first=False))
    )
    limits = SupervisorLimits(stop_seconds=config.server.shutdown_timeout + _KILL_AFTER_SHUTDOWN_SECONDS)

    serving = False

    def report(event: SupervisorEvent) -> None:
        nonlocal serving
        if not serving and baton.is_out():
            return  # the start failed, and the line that says why is the last one
        logger.info("supervisor", what=event.kind, worker=event.worker, detail=event.detail)
        if event.kind is SupervisorEventKind.ALL_READY:
            serving = True
            logger.info("listening", est=_text(addresses.est), admin=_text(addresses.admin))
            announce(addresses)
        elif event.kind is SupervisorEventKind.WORKER_DIED and baton.is_out():
            baton.put_back()

    return Supervisor(specs, limits, report).run()


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _ErrorBaton:
    """Of several processes that fail to start for the same reason, the one that holds it prints the line."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self.put_back()

    def put_back(self) -> None:
        os.write(self._write_fd, b"!")

    def is_out(self) -> bool:
        """Whether some process holds it, and has printed its line or is about to."""
        readable, _, _ = select.select([self._read_fd], [], [], 0)
        return not readable

    def take(self) -> bool:
        try:
            return bool(os.read(self._read_fd, 1))
        except BlockingIOError:
            return False


_Serve = Callable[[Assembly, socket.socket], Awaitable["_Served"]]


@dataclass(slots=True)
class _Served:
    """A listener with the means to renew its TLS context."""

    app: Any
    tls: Callable[[], Awaitable[ServerTls]]


def _worker(
    what: Callable[[Assembly], _Served], config: Config, bound: socket.socket, baton: _ErrorBaton, *, is_first: bool
) -> Callable[[WorkerLink], int]:
    def run(link: WorkerLink) -> int:
        try:
            return run_event_loop(lambda: _serve(what, config, bound, link, is_first=is_first))
        except KipukaError as error:
            if baton.take():
                for line in str(error).splitlines():
                    print(f"kipuka: error: {line}", file=sys.stderr)  # noqa: T201  # what the operator waits for
            return 1

    return run


def _serve_est(assembly: Assembly) -> _Served:
    return _Served(assembly.est, lambda: est_tls(assembly))


def _serve_admin(assembly: Assembly) -> _Served:
    app = admin_app(assembly.ping, assembly.plugins.admin_routes)
    return _Served(app, lambda: admin_tls(assembly, utc_now()))


async def _serve(
    what: Callable[[Assembly], _Served], config: Config, bound: socket.socket, link: WorkerLink, *, is_first: bool
) -> int:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    async with assemble(config) as assembly:
        served = what(assembly)
        tls = await served.tls()
        assembly.warnings.extend(inspect_certificates(tls, utc_now()))
        current = _CurrentTls(tls)
        listener = Listener(
            served.app,
            bound,
            limits=_limits(config),
            ssl_context=lambda: current.context,
            describe=describe_with(current.peers),
            report=_report_handshake,
        )
        if is_first:
            for warning in dict.fromkeys(assembly.warnings):
                logger.warning("configuration", warning=warning)
        listener.start()
        await assembly.events.emit(ServerStarted(time=utc_now(), version=version("kipuka")))
        link.ready()
        reloading = asyncio.ensure_future(_reload_for_ever(reload, served, current))
        await stop.wait()
        reloading.cancel()
        await listener.drain()
        await assembly.events.emit(ServerStopped(time=utc_now()))
    return 0


class _CurrentTls:
    """The SSL context of new connections, and the anchors of resumed ones."""

    def __init__(self, tls: ServerTls) -> None:
        self.context: ssl.SSLContext = build_context(tls)
        self.peers = PeerReader(tls.anchors, required=tls.client_auth == "required")

    def replace(self, tls: ServerTls) -> None:
        self.context = build_context(tls)
        self.peers.trust(tls.anchors)


async def _reload_for_ever(reload: asyncio.Event, served: _Served, current: _CurrentTls) -> None:
    """SIGHUP: the certificate, key and anchors are read again; with an error the old ones stay."""
    while True:
        await reload.wait()
        reload.clear()
        try:
            current.replace(await served.tls())
            logger.info("TLS material reloaded")
        except ConfigurationError as error:
            logger.error("TLS material not reloaded, the old one stays", problem=str(error))


def _limits(config: Config) -> ListenerLimits:
    server = config.server
    return ListenerLimits(
        max_connections=server.max_connections,
        max_connections_per_address=server.max_connections_per_address,
        handshake_timeout_seconds=server.handshake_timeout,
        header_timeout_seconds=server.header_timeout,
        idle_timeout_seconds=server.idle_timeout,
        # More than the slowest road: the body, every plugin up to its timeout, and a client that reads slowly.
        request_timeout_seconds=server.body_timeout + 20 * config.plugins.timeout,
        shutdown_timeout_seconds=server.shutdown_timeout,
    )


def _report_handshake(failure: HandshakeFailed) -> None:
    logger.warning("handshake failed", source_address=failure.address, cause=failure.cause)
