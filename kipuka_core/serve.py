"""``kipuka serve``: a supervisor, worker processes for EST, and one process for the admin listener."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kipuka_core.administration import administration
from kipuka_core.assemble import Assembly, utc_now
from kipuka_core.config import Config
from kipuka_core.edges import log
from kipuka_core.edges.http.public import PublicApp
from kipuka_core.edges.metrics.counters import Counters, fresh_directory
from kipuka_core.edges.serving.control import ControlSocket, ControlUnavailable
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.serving.supervisor import (
    Supervisor,
    SupervisorEvent,
    SupervisorEventKind,
    SupervisorLimits,
    run_event_loop,
)
from kipuka_core.edges.serving.worker import WorkerLink, WorkerSpec
from kipuka_core.edges.tls.admission import refuse_revoked
from kipuka_core.errors import KipukaError
from kipuka_core.listeners import admin_material, est_material
from kipuka_core.pursuing import PursuitJob
from kipuka_core.retention import RetentionJob
from kipuka_core.serving_process import Beside, ListenerPlan, PlainListener, serve_listener

logger = log.get_logger()
EST_ADDRESS, ADMIN_ADDRESS, HTTP_ADDRESS = "server.listen", "server.admin_listen", "server.http_listen"
_KILL_AFTER_SHUTDOWN_SECONDS = 5.0
ROOT_REMEDY = "run it as a user of its own, as the unit examples/systemd/kipuka.service does"
_STORE_SECONDS = 15.0
"""How long the database may take to say whether a client certificate is on record."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the listeners are bound; a port of 0 in the configuration is a real one here."""

    est: tuple[str, int]
    admin: tuple[str, int]
    http: tuple[str, int] | None = None
    """Of CRLs and OCSP; None: not configured."""


def serve(
    config: Config, *, announce: Callable[[Addresses], None] = lambda _: None, is_development: bool = False
) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    ``announce`` is called once, in the supervisor, when every process serves. ``is_development``: nobody minds root.
    Raises ConfigurationError for addresses that cannot be bound; what else cannot be opened is one line on standard
    error and exit code 1.
    """
    log.configure()
    est_socket = bind_socket(str(config.server.listen), EST_ADDRESS)
    admin_socket = bind_socket(str(config.server.admin_listen), ADMIN_ADDRESS)
    http = config.server.http_listen
    http_socket = bind_socket(str(http), HTTP_ADDRESS) if http is not None else None
    addresses = Addresses(
        est_socket.getsockname()[:2],
        admin_socket.getsockname()[:2],
        http_socket.getsockname()[:2] if http_socket else None,
    )
    baton = _ErrorBaton()
    est, admin = _est_plan(config), _admin_plan(config, http_socket)
    limits = SupervisorLimits(stop_seconds=config.server.shutdown_timeout + _KILL_AFTER_SHUTDOWN_SECONDS)
    control, no_control = _control_socket(config)
    figures = fresh_directory(config.server.state_dir, is_shared=control is None)

    def spec(
        name: str, plan: ListenerPlan, bound: socket.socket, *further: socket.socket, records: bool = False
    ) -> WorkerSpec:
        run = _worker(plan, config, bound, baton, lambda: Counters(figures, name))
        return WorkerSpec(name, (bound, *further), run, records=records)

    specs = [spec(f"est-{number}", est, est_socket) for number in range(1, config.server.workers + 1)]
    specs.append(spec("admin", admin, admin_socket, *filter(None, (http_socket,)), records=True))

    serving = False

    def report(event: SupervisorEvent) -> None:
        nonlocal serving
        if not serving and baton.is_out():
            return  # the start failed, and the line that says why is the last one
        write = logger.error if event.kind is SupervisorEventKind.RELOAD_FAILED else logger.info
        write("supervisor", what=event.kind, worker=event.worker, detail=event.detail)
        if event.kind is SupervisorEventKind.ALL_READY:
            serving = True
            if os.geteuid() == 0 and not is_development:
                logger.warning("configuration", warning=f"the server runs as root: {ROOT_REMEDY}")
            if no_control:
                logger.warning("no control socket: reload by SIGHUP", problem=no_control)
            also = {"http": _text(addresses.http)} if addresses.http else {}
            logger.info("listening", est=_text(addresses.est), admin=_text(addresses.admin), **also)
            announce(addresses)
        elif event.kind is SupervisorEventKind.WORKER_DIED and baton.is_out():
            baton.put_back()

    return Supervisor(specs, limits, report, control).run()


def _control_socket(config: Config) -> tuple[ControlSocket | None, str]:
    """Where ``kipuka reload`` is heard; or None and the reason. A server serves without it all the same."""
    try:
        return ControlSocket(config.server.state_dir), ""
    except ControlUnavailable as error:
        return None, str(error)


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


def _worker(
    plan: ListenerPlan, config: Config, bound: socket.socket, baton: _ErrorBaton, counters: Callable[[], Counters]
) -> Callable[[WorkerLink], int]:
    def run(link: WorkerLink) -> int:
        try:
            return run_event_loop(lambda: serve_listener(plan, config, bound, link, counters=counters()))
        except KipukaError as error:
            lines = str(error).splitlines()
            link.not_started("; ".join(lines))
            if baton.take():
                for line in lines:
                    print(f"kipuka: error: {line}", file=sys.stderr)  # noqa: T201  # what the operator waits for
            return 1

    return run


def _est_plan(config: Config) -> ListenerPlan:
    def admit(assembly: Assembly) -> Callable[[Mapping[str, Any]], Awaitable[None]] | None:
        if config.tls.client_auth.mode != "required":
            return None
        return refuse_revoked(assembly.standing, timeout_seconds=3 * config.revocation.timeout + _STORE_SECONDS)

    return ListenerPlan(
        name="est",
        where=EST_ADDRESS,
        read=est_material,
        materials=(config.tls_material,),
        app=lambda assembly, _live: assembly.est,
        admit=admit,
        proxies=config.server.proxy_protocol_from,
    )


def _admin_plan(config: Config, http_socket: socket.socket | None) -> ListenerPlan:
    def beside(assembly: Assembly) -> Beside:
        """This one process keeps CRLs and responders current, serves them to the world, and archives what is old."""
        plain = None
        if http_socket is not None:
            app = PublicApp(assembly.status, utc_now, body_timeout_seconds=config.server.body_timeout)
            plain = PlainListener(bound=http_socket, where=HTTP_ADDRESS, app=app)
        retention = RetentionJob.of(config, assembly.store, assembly.events, utc_now)
        pursuit = PursuitJob.of(assembly, utc_now)
        return Beside(tasks=(assembly.status.run, retention.run, pursuit.run), plain=plain)

    by_path = {table.toml_path: table for table in (config.admin_tls_material, config.tls_material)}
    return ListenerPlan(
        name="admin",
        where=ADMIN_ADDRESS,
        read=admin_material,
        materials=tuple(by_path.values()),
        app=administration,
        beside=beside,
        speaks_for_all=True,
    )
