"""A worker process of ``kipuka serve``: one listener with everything behind it, from opening to closing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

from kipuka_core.assemble import Assembly, assemble, utc_now
from kipuka_core.config import Config, PluginTable
from kipuka_core.domain.ports import EventHub
from kipuka_core.edges import log
from kipuka_core.edges.serving.handshake_reports import HandshakeReports
from kipuka_core.edges.serving.link import Message, MessageKind
from kipuka_core.edges.serving.listener import Listener, ListenerLimits
from kipuka_core.edges.serving.worker import WorkerLink
from kipuka_core.errors import KipukaError
from kipuka_core.live_tls import LiveTls, Prepared, ReadMaterial
from kipuka_core.model.event import ServerStarted, ServerStopped, TlsReloaded, TlsReloadFailed
from kipuka_core.retention import RetentionJob
from kipuka_core.upkeep import Upkeep, UpkeepTimes

logger = log.get_logger()
_LAST_WORDS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerPlan:
    """What makes the process of one listener different from that of the other."""

    name: Literal["est", "admin"]
    where: str
    """The TOML path of its address."""
    read: ReadMaterial
    materials: Sequence[PluginTable]
    """The TLS material that this process has open."""
    app: Callable[[Assembly, LiveTls], Any]
    admit: Callable[[Assembly], Callable[[Mapping[str, Any]], Awaitable[None]] | None] = lambda _: None
    proxies: Sequence[IPv4Network | IPv6Network] = ()
    speaks_for_all: bool = False
    """Whether it writes down what is the same for all processes: warnings, and how reloads ended."""


async def serve_listener(
    plan: ListenerPlan,
    config: Config,
    bound: socket.socket,
    link: WorkerLink,
    *,
    times: UpkeepTimes | None = None,
) -> int:
    """Serve until SIGTERM; the exit code. Raises KipukaError for what cannot be opened."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with assemble(config) as assembly:
        live = await LiveTls.open(assembly, plan.read, clock=utc_now)
        reports = HandshakeReports(emit=assembly.events.emit, listener=plan.name)
        listener = Listener(
            live.kept.guard(plan.app(assembly, live)),
            bound,
            limits=_limits(config),
            ssl_context=lambda: live.context,
            describe=live.kept.describe,
            admit=plan.admit(assembly),
            proxies=plan.proxies,
            report=reports.report,
            where=plan.where,
        )
        reloads = ReloadAnswers(link, live, assembly.events, plan.name)
        upkeep = Upkeep(
            assembly,
            live,
            plan.materials,
            is_reloading=lambda: reloads.is_reloading,
            says_warnings=plan.speaks_for_all,
            times=times,
        )
        if plan.speaks_for_all:
            for warning in live.current_warnings():
                logger.warning("configuration", warning=warning)
        listener.start()
        await assembly.events.emit(ServerStarted(time=utc_now(), version=version("kipuka")))
        loop.add_reader(link.fileno(), reloads.listen)
        beside = [asyncio.create_task(upkeep.run()), asyncio.create_task(reports.run())]
        if plan.speaks_for_all:
            retention = RetentionJob.of(config, assembly.store, assembly.events, utc_now)
            beside.append(asyncio.create_task(retention.run()))
        link.ready()
        await stop.wait()
        loop.remove_reader(link.fileno())
        await listener.drain()
        await reloads.close()
        await _end(*beside)
        await assembly.events.emit(ServerStopped(time=utc_now()))
    return 0


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            logger.error("a task of the server failed", exception=type(ended).__name__)


class ReloadAnswers:
    """What this process answers the supervisor during a reload."""

    def __init__(self, link: WorkerLink, live: LiveTls, events: EventHub, listener: str) -> None:
        self._link = link
        self._live = live
        self._events = events
        self._listener = listener
        self._preparing: asyncio.Task[None] | None = None
        self._prepared: tuple[int, Prepared] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_reloading(self) -> bool:
        """Whether files are being read, or were and the supervisor has not decided yet."""
        return self._preparing is not None or self._prepared is not None

    def listen(self) -> None:
        """Take what the supervisor has said; called when the link is readable."""
        for message in self._link.received():
            if message.kind is MessageKind.PREPARE:
                self._forget()
                self._preparing = self._begin(self._prepare(message.round))
            elif message.kind is MessageKind.COMMIT:
                self._commit(message.round)
            elif message.kind is MessageKind.ABORT:
                self._forget()
            elif message.kind in {MessageKind.RECORD_RELOADED, MessageKind.RECORD_RELOAD_FAILED}:
                self._begin(self._record(message))

    async def close(self) -> None:
        """Give up what is being read; write down what is to be written down."""
        self._forget()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_SECONDS)

    async def _prepare(self, number: int) -> None:
        prepared: Prepared | None = None
        try:
            prepared = await self._live.prepare()
        except KipukaError as error:
            answer = Message(MessageKind.REFUSED, number, "; ".join(str(error).splitlines()))
        except Exception as error:
            logger.exception("the files of a reload cannot be read")
            answer = Message(MessageKind.REFUSED, number, f"the files cannot be read: {type(error).__name__}")
        else:
            material, name = prepared.material, self._listener
            answer = Message(MessageKind.PREPARED, number, f"{name}: {material}", name, material.digest)
        if asyncio.current_task() is not self._preparing:  # given up meanwhile, and not to be stopped
            return
        self._preparing = None
        self._prepared = (number, prepared) if prepared is not None else None
        self._link.answer(answer)

    def _commit(self, number: int) -> None:
        if self._prepared is None or self._prepared[0] != number:
            return
        _, prepared = self._prepared
        self._prepared = None
        try:
            self._live.commit(prepared)
        except Exception:  # not confirmed then, which the supervisor reports
            logger.exception("the files of a reload cannot be used")
            return
        logger.info("TLS material reloaded", listener=self._listener, serves=str(self._live.material))
        self._link.answer(Message(MessageKind.COMMITTED, number))

    def _forget(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = self._prepared = None

    async def _record(self, message: Message) -> None:
        kind = TlsReloaded if message.kind is MessageKind.RECORD_RELOADED else TlsReloadFailed
        await self._events.emit(kind(time=utc_now(), reason=message.text))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


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
