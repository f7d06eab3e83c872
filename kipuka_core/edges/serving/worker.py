"""A worker process: how it is forked, what it holds, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from kipuka_core.edges.serving.link import Link, Message, MessageKind, link_pair

SUPERVISOR_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})


class WorkerLink:
    """A worker's end of the line to its supervisor."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def ready(self) -> None:
        """Say that everything is open and the worker serves. Called once."""
        self._link.send(Message(MessageKind.READY))

    def not_started(self, problem: str) -> None:
        """Say in one line why this worker will never be ready."""
        self._link.send(Message(MessageKind.NOT_STARTED, text=problem))

    def answer(self, message: Message) -> None:
        """Answer what :meth:`received` brought."""
        self._link.send(message)

    def fileno(self) -> int:
        """What becomes readable when the supervisor has said something."""
        return self._link.fileno()

    def received(self) -> list[Message]:
        """What the supervisor has said, in order; never waits."""
        return self._link.received()


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker process.

    ``run`` gets a link, calls :meth:`WorkerLink.ready` when it serves, and blocks until it is told to stop by SIGTERM;
    what it returns is the exit code. Once it is ready it answers the supervisor's messages; SIGHUP is ignored in its
    process. ``sockets`` are the bound sockets that it serves; those of other workers are closed in its process. One of
    the workers ``records`` how reloads ended.
    """

    name: str
    sockets: tuple[socket.socket, ...]
    run: Callable[[WorkerLink], int]
    records: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A forked worker: its process id, and the supervisor's end of the line to it."""

    pid: int
    link: Link


class Closable(Protocol):
    """Something that the supervisor holds and a worker must not."""

    def close(self) -> object:
        """Let go of it, in this process."""
        ...


class Lifeline:
    """A pipe that only the supervisor can write to, and never does: its end of file is the supervisor's end.

    That holds for every way of ending, ``kill -9`` included.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()

    def close(self) -> None:
        """Let go of both ends."""
        os.close(self._read_fd)
        os.close(self._write_fd)

    def watch(self, grace_seconds: float) -> None:
        """In a worker: stop as by SIGTERM when the supervisor is gone, and at once after ``grace_seconds``."""
        os.close(self._write_fd)
        threading.Thread(target=self._wait_for_end, args=(grace_seconds,), name="lifeline", daemon=True).start()

    def _wait_for_end(self, grace_seconds: float) -> None:
        os.read(self._read_fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os._exit(1)


def fork_worker(
    spec: WorkerSpec, others: Callable[[], Iterator[Closable]], lifeline: Lifeline, grace_seconds: float
) -> Started:
    """Fork a process that runs ``spec``; only from a process with a single thread, before any event loop exists.

    ``others`` is called in the new process: what it closes there first. Raises OSError where no process can be made.
    """
    ours, theirs = link_pair()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        with _signals_held():
            pid = os.fork()
            if pid == 0:
                _reset_signals()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid:
        theirs.close()
        return Started(pid, ours)
    ours.close()
    _exit_with(lambda: _run(spec, others(), lifeline, grace_seconds, theirs))
    raise AssertionError("a worker process returned")  # pragma: no cover - _exit_with does not


def _run(spec: WorkerSpec, others: Iterator[Closable], lifeline: Lifeline, grace_seconds: float, link: Link) -> int:
    for other in others:
        other.close()
    lifeline.watch(grace_seconds)
    return spec.run(WorkerLink(link))


def _exit_with(run: Callable[[], int]) -> None:
    """End this process with what ``run`` returns; its parent's ``finally`` blocks and exit handlers are not its own."""
    code = 1
    try:
        code = run()
    except SystemExit as request:
        code = request.code if isinstance(request.code, int) else 1
    except BaseException:  # noqa: BLE001 - nothing may unwind into the supervisor's frames
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def _signals_held() -> Iterator[None]:
    """No signal may reach the child while it still has the supervisor's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Ctrl-C and a closed terminal reach the whole process group: the supervisor alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
