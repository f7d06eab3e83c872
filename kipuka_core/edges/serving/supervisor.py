"""The supervisor: starts worker processes, replaces dead ones, and stops all of them in order.

It has one thread and no event loop, so that it can fork. One worker takes the same path as many.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kipuka_core.edges.serving.control import ControlSocket
from kipuka_core.edges.serving.link import Message, MessageKind
from kipuka_core.edges.serving.reload import Outcome, Reloads
from kipuka_core.edges.serving.worker import (
    SUPERVISOR_SIGNALS,
    Closable,
    Lifeline,
    Started,
    WorkerSpec,
    fork_worker,
)

_TICK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorLimits:
    """Times of a supervisor, in seconds.

    ``stop_seconds`` is how long workers may take to stop before they are killed; give them a little more than their own
    shutdown timeout. A worker that dies is started again after ``restart_seconds``, doubled at every further death up
    to ``restart_max_seconds``, and from the beginning once it has lived for ``healthy_seconds``. A reload fails when a
    worker does not answer for ``reload_seconds``.
    """

    stop_seconds: float = 35.0
    restart_seconds: float = 0.5
    restart_max_seconds: float = 30.0
    healthy_seconds: float = 60.0
    reload_seconds: float = 30.0


class SupervisorEventKind(StrEnum):
    """What happened to the workers, and how reloads ended."""

    WORKER_READY = "worker_ready"
    ALL_READY = "all_ready"
    WORKER_DIED = "worker_died"
    RELOADED = "reloaded"
    RELOAD_FAILED = "reload_failed"
    STOPPING = "stopping"
    WORKER_KILLED = "worker_killed"


@dataclass(frozen=True, slots=True)
class SupervisorEvent:
    """Something for the log. ``worker`` is empty where it is about all of them; ``detail`` is one line."""

    kind: SupervisorEventKind
    worker: str = ""
    detail: str = ""


@dataclass(slots=True)
class _Worker:
    spec: WorkerSpec
    started: Started | None = None
    started_at: float = 0.0
    ready: bool = False
    was_ready: bool = False
    deaths_in_a_row: int = 0
    restart_at: float | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    def send(self, message: Message) -> bool:
        return self.started is not None and self.started.link.send(message)


@dataclass(slots=True)
class _Stop:
    exit_code: int
    deadline: float
    killed: bool = False


@dataclass(slots=True)
class Supervisor:
    """Runs workers until it is told to stop.

    SIGTERM and SIGINT stop it: workers get SIGTERM, and SIGKILL when they take too long or at a second signal. SIGHUP,
    and the command ``reload`` on the control socket, have all workers read their files again as soon as all are ready.
    ``report`` is told what a log should say.
    """

    specs: Sequence[WorkerSpec]
    limits: SupervisorLimits = field(default_factory=SupervisorLimits)
    report: Callable[[SupervisorEvent], object] = lambda _: None
    control: ControlSocket | None = None
    _workers: list[_Worker] = field(init=False, default_factory=list)
    _lifeline: Lifeline = field(init=False, default_factory=Lifeline)
    _selector: selectors.BaseSelector = field(init=False, default_factory=selectors.DefaultSelector)
    _stop: _Stop | None = field(init=False, default=None)
    _all_were_ready: bool = field(init=False, default=False)
    _reloads: Reloads = field(init=False)
    _unrecorded: list[Message] = field(init=False, default_factory=list)

    def run(self) -> int:
        """Serve until stopped. The exit code: 0 after a clean stop, else 1.

        1 also when a worker fails before it was ever ready; it has said why, and the others are stopped.
        """
        self._workers = [_Worker(spec) for spec in self.specs]
        self._reloads = Reloads(
            self._workers,
            hurry=self._start_again_now,
            conclude=self._on_outcome,
            answer_seconds=self.limits.reload_seconds,
        )
        with _signal_numbers() as signals, self._selector as selector:
            selector.register(signals, selectors.EVENT_READ, lambda: None)
            if self.control is not None:
                self.control.attach(selector, {"reload": self._reloads.request})
            for worker in self._workers:
                if self._stop is None:
                    self._start(worker)
            while self._stop is None or any(worker.started for worker in self._workers):
                for key, _ in selector.select(self._seconds_to_wait()):
                    key.data()
                for number in _received(signals):
                    self._on_signal(number)
                self._reap()
                self._start_due()
                self._go_on_reloading()
                self._kill_overdue()
        self._lifeline.close()
        return self._stop.exit_code

    def _start(self, worker: _Worker) -> None:
        try:
            started = fork_worker(worker.spec, lambda: self._not_for(worker), self._lifeline, self.limits.stop_seconds)
        except OSError as error:  # out of processes, memory or file descriptors
            self._on_no_start(worker, f"cannot be started: {error.strerror}")
            return
        worker.started = started
        worker.started_at = time.monotonic()
        worker.ready = False
        worker.restart_at = None
        self._selector.register(started.link.fileno(), selectors.EVENT_READ, lambda: self._listen_to(worker))

    def _not_for(self, worker: _Worker) -> Iterator[Closable]:
        """What this process has open and a worker is not to have."""
        own = {id(bound) for bound in worker.spec.sockets}
        yield from (bound for spec in self.specs for bound in spec.sockets if id(bound) not in own)
        yield from (each.started.link for each in self._workers if each.started is not None and each is not worker)
        if self.control is not None:
            self.control.let_go()
        yield self._selector

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if self._stop is None and worker.restart_at is not None and worker.restart_at <= now:
                self._start(worker)

    def _start_again_now(self) -> None:
        """A reload: the files that a worker could not start with may be right by now."""
        for worker in self._workers:
            if worker.restart_at is not None:
                worker.restart_at = time.monotonic()
        self._start_due()

    def _listen_to(self, worker: _Worker) -> None:
        if worker.started is None:
            return
        for message in worker.started.link.received():
            if message.kind is MessageKind.READY:
                self._on_ready(worker, worker.started.pid)
            else:
                self._reloads.heard(worker, message)

    def _on_ready(self, worker: _Worker, pid: int) -> None:
        worker.ready = worker.was_ready = True
        self._say(SupervisorEventKind.WORKER_READY, worker, f"process {pid}")
        if not self._all_were_ready and all(each.was_ready for each in self._workers):
            self._all_were_ready = True
            self._say(SupervisorEventKind.ALL_READY)

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.started is None:
                continue
            pid, status = os.waitpid(worker.started.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._listen_to(worker)  # to its last words
            self._selector.unregister(worker.started.link.fileno())
            worker.started.link.close()
            worker.started = None
            was_ready, worker.ready = worker.ready, False
            if self._stop is None:
                self._reloads.lost(worker, was_ready=was_ready, how=_how_it_ended(status))
                self._on_death(worker, was_ready, pid, status)

    def _on_death(self, worker: _Worker, was_ready: bool, pid: int, status: int) -> None:
        how = _how_it_ended(status)
        if was_ready and time.monotonic() - worker.started_at >= self.limits.healthy_seconds:
            worker.deaths_in_a_row = 0
        self._on_no_start(
            worker, f"process {pid} {how}" if worker.was_ready else f"process {pid} {how} before it was ready"
        )

    def _on_no_start(self, worker: _Worker, what: str) -> None:
        """Try again later; but one that never was ready has a reason that time does not mend."""
        if not worker.was_ready:
            self._say(SupervisorEventKind.WORKER_DIED, worker, what)
            self._begin_stop(exit_code=1)
            return
        limits = self.limits
        # The exponent is bounded only to keep the number small; the delay is bounded by restart_max_seconds.
        delay = min(limits.restart_seconds * 2 ** min(worker.deaths_in_a_row, 16), limits.restart_max_seconds)
        worker.deaths_in_a_row += 1
        worker.restart_at = time.monotonic() + delay
        self._say(SupervisorEventKind.WORKER_DIED, worker, f"{what}; starting again in {delay:g}s")

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reloads.request()
        elif number in (signal.SIGTERM, signal.SIGINT):
            if self._stop is None:
                self._begin_stop(exit_code=0)
            else:
                self._kill(self._stop)

    def _begin_stop(self, exit_code: int) -> None:
        self._say(SupervisorEventKind.STOPPING)
        self._stop = _Stop(exit_code, time.monotonic() + self.limits.stop_seconds)
        # As long as this process holds them, clients would be put into a queue that nobody serves.
        for spec in self.specs:
            for bound in spec.sockets:
                bound.close()
        self._reloads.give_up("the server is being stopped")
        if self.control is not None:
            self.control.close()
            self.control = None
        self._send(signal.SIGTERM)

    def _go_on_reloading(self) -> None:
        if self._may_reload:
            self._reloads.step()
        if self.control is not None:
            self.control.expire()
        recorder = next((each for each in self._workers if each.spec.records and each.ready), None)
        while recorder is not None and self._unrecorded and recorder.send(self._unrecorded[0]):
            del self._unrecorded[0]

    @property
    def _may_reload(self) -> bool:
        return self._all_were_ready and self._stop is None

    def _on_outcome(self, outcome: Outcome) -> None:
        what = SupervisorEventKind.RELOADED if outcome.ok else SupervisorEventKind.RELOAD_FAILED
        kind = MessageKind.RECORD_RELOADED if outcome.ok else MessageKind.RECORD_RELOAD_FAILED
        text = "; ".join(outcome.lines)
        self._say(what, detail=text)
        if any(spec.records for spec in self.specs):
            self._unrecorded.append(Message(kind, text=text))

    def _kill_overdue(self) -> None:
        if self._stop is not None and not self._stop.killed and time.monotonic() >= self._stop.deadline:
            self._kill(self._stop)

    def _kill(self, stop: _Stop) -> None:
        stop.killed = True
        stop.exit_code = 1
        for worker in self._workers:
            if worker.started:
                self._say(SupervisorEventKind.WORKER_KILLED, worker, f"process {worker.started.pid}")
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # A worker is reaped here only, so its process id is its own until then.
        for worker in self._workers:
            if worker.started:
                os.kill(worker.started.pid, number)

    def _seconds_to_wait(self) -> float:
        moments = [worker.restart_at for worker in self._workers if worker.restart_at is not None]
        if self._stop is not None:
            moments = [] if self._stop.killed else [self._stop.deadline]
        if self._may_reload and self._reloads.deadline is not None:
            moments.append(self._reloads.deadline)
        if self.control is not None and self.control.deadline is not None:
            moments.append(self.control.deadline)
        return max(0.0, min(moments, default=time.monotonic() + _TICK_SECONDS) - time.monotonic())

    def _say(self, kind: SupervisorEventKind, worker: _Worker | None = None, detail: str = "") -> None:
        self.report(SupervisorEvent(kind, worker.spec.name if worker else "", detail))


def run_event_loop(main: Callable[[], Coroutine[Any, Any, int]], *, use_uvloop: bool = True) -> int:
    """Run a coroutine to its end in a new event loop: uvloop's where it can be imported and is wanted."""
    with asyncio.Runner(loop_factory=_uvloop_factory() if use_uvloop else None) as runner:
        return runner.run(main())


def _uvloop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - optional: there are platforms without it
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextmanager
def _signal_numbers() -> Iterator[socket.socket]:
    """A socket on which the numbers of the supervisor's signals arrive, so that ``select`` wakes up for them."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    wakeup_before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in SUPERVISOR_SIGNALS}
    try:
        yield reading
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        reading.close()
        writing.close()


def _received(signals: socket.socket) -> bytes:
    try:
        return signals.recv(256)
    except BlockingIOError:
        return b""


def _how_it_ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
