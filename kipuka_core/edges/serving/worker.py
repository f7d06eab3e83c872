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

SUPERVISOR_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_READY = b"R"


class WorkerLink:
    """A worker's end of the line to its supervisor."""

    def __init__(self, ready_fd: int) -> None:
        self._ready_fd = ready_fd

    def ready(self) -> None:
        """Say that everything is open and the worker serves. Called once."""
        os.write(self._ready_fd, _READY)
        os.close(self._ready_fd)


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker process.

    ``run`` gets a link, calls :meth:`WorkerLink.ready` when it serves, and blocks until it is told to stop by SIGTERM;
    what it returns is the exit code. SIGHUP asks it to reload and is ignored until it installs a handler. ``sockets``
    are the bound sockets that it serves; those of other workers are closed in its process.
    """

    name: str
    sockets: tuple[socket.socket, ...]
    run: Callable[[WorkerLink], int]


@dataclass(frozen=True, slots=True)
class Started:
    """A forked worker: its process id, and the end of the pipe by which it says that it is ready."""

    pid: int
    ready_fd: int

    def poll_ready(self) -> bool:
        """Whether the worker has said that it is ready."""
        try:
            return os.read(self.ready_fd, 1) == _READY
        except BlockingIOError:
            return False


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


def fork_worker(spec: WorkerSpec, others: Iterator[socket.socket], lifeline: Lifeline, grace_seconds: float) -> Started:
    """Fork a process that runs ``spec``; only from a process with a single thread, before any event loop exists."""
    ready_read, ready_write = os.pipe()
    os.set_blocking(ready_read, False)
    sys.stdout.flush()
    sys.stderr.flush()
    with _signals_held():
        pid = os.fork()
        if pid == 0:
            _reset_signals()
    if pid:
        os.close(ready_write)
        return Started(pid, ready_read)
    _exit_with(lambda: _run(spec, others, lifeline, grace_seconds, ready_write))
    raise AssertionError("a worker process returned")  # pragma: no cover - _exit_with does not


def _run(
    spec: WorkerSpec, others: Iterator[socket.socket], lifeline: Lifeline, grace_seconds: float, ready_fd: int
) -> int:
    for other in others:
        other.close()
    lifeline.watch(grace_seconds)
    return spec.run(WorkerLink(ready_fd))


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
    # Ctrl-C reaches the whole process group: the supervisor alone decides. A reload before the worker can: no harm.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
