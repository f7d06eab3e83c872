"""Whether a plugin lets the event loop go round while it is asked.

Two observers, and neither goes by how long something takes: a slow machine is no fault of a plugin. One hears of every
call of a C function that waits (``time.sleep``, a blocking socket, name resolution) in the thread of the loop. The
other, a heartbeat in another thread, wants a turn of the loop and looks, while it gets none, whether the loop's thread
works or sleeps: a thread that was asleep all the time, without a moment of CPU, waits for something.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_PULSE_SECONDS = 0.01
_SLEEPING_PULSES = 15
_WAITING_FUNCTIONS = frozenset({time.sleep, socket.getaddrinfo, os.system})
_WAITING_NAMES = frozenset({"getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo"})
_WAITING_METHODS = frozenset(
    {"accept", "connect", "connect_ex", "recv", "recv_into", "recvfrom", "send", "sendall", "sendto"}
)
_ADVICE = (
    "in a coroutine use `await asyncio.sleep(…)` or an asynchronous library, or hand the work to a thread:"
    " `await services.run_blocking(function, …)`"
)


@contextmanager
def loop_goes_round(package: str) -> Iterator[None]:
    """Raise AssertionError when something in the body keeps the running loop from its turns.

    ``package`` is the plugin's, so that the line at fault is named.
    """
    calls = _WaitingCalls(package)
    heartbeat = _Heartbeat(asyncio.get_running_loop(), package)
    before = sys.getprofile()
    heartbeat.start()
    sys.setprofile(calls.hear)
    try:
        yield
    finally:
        sys.setprofile(before)
        heartbeat.stop()
    found = calls.found or heartbeat.found
    if found:
        raise AssertionError(f"the event loop stood still: {found}; {_ADVICE}")


class _WaitingCalls:
    """Hears of the C functions that are called in this thread."""

    def __init__(self, package: str) -> None:
        self.found = ""
        self._package = package

    def hear(self, frame: FrameType, event: str, function: Any) -> None:
        """A profile function (:func:`sys.setprofile`)."""
        if event == "c_call" and not self.found and _waits(function):
            self.found = f"{_name(function)} is called in {_place(frame, self._package)}"


def _waits(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    if isinstance(owner, socket.socket):
        return name in _WAITING_METHODS and owner.gettimeout() != 0
    if getattr(owner, "__name__", "") == "_socket":
        return name in _WAITING_NAMES
    try:
        return function in _WAITING_FUNCTIONS
    except TypeError:  # not hashable
        return False


def _name(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    of = getattr(owner, "__name__", type(owner).__name__) if owner is not None else ""
    return f"{of.lstrip('_')}.{function.__name__}"


def _place(frame: FrameType, package: str) -> str:
    """The innermost line of the plugin that led here, else the innermost of all."""
    at: FrameType | None = frame
    while at is not None:
        module = str(at.f_globals.get("__name__", ""))
        if module.partition(".")[0] == package:
            return f"line {at.f_lineno} of {module}"
        at = at.f_back
    return f"line {frame.f_lineno} of {frame.f_globals.get('__name__', '')}"


class _Heartbeat(threading.Thread):
    """Wants a turn of the loop again and again, and watches its thread while there is none."""

    def __init__(self, loop: asyncio.AbstractEventLoop, package: str) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.found = ""
        self._loop = loop
        self._package = package
        self._ended = threading.Event()
        self._turn = threading.Event()
        self._ident = threading.get_ident()
        self._state_file = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        self._clock = time.pthread_getcpuclockid(self._ident)

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._ended.is_set():
            self._turn.clear()
            self._loop.call_soon_threadsafe(self._turn.set)
            self._watch()
            self._ended.wait(_PULSE_SECONDS)

    def stop(self) -> None:
        """End, and wait for it."""
        self._ended.set()
        self._turn.set()
        self.join()

    def _watch(self) -> None:
        pulses, spent = 0, -1
        while not self._turn.wait(_PULSE_SECONDS):
            now_spent = time.clock_gettime_ns(self._clock)
            pulses = pulses + 1 if now_spent == spent and self._is_asleep() else 0
            spent = now_spent
            if pulses == _SLEEPING_PULSES:
                self.found = f"its thread sleeps in {_place(sys._current_frames()[self._ident], self._package)}"  # noqa: SLF001  # the only way to see another thread's frames

    def _is_asleep(self) -> bool:
        try:
            return self._state_file.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "S"
        except OSError:  # no Linux: then the calls that are heard of have to do
            return False
