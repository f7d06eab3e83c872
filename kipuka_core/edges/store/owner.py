"""Which process holds a reservation, in a way that survives the reuse of process ids."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


def this_process() -> str:
    """``host:pid:start time`` of the calling process; the start time in clock ticks since the host's boot."""
    pid = os.getpid()
    return f"{_host_name()}:{pid}:{_start_time(pid)}"


def died_here(owner: str) -> bool:
    """Whether an owner was a process of this host that is not there any more; False when that cannot be known."""
    host, pid, start_time = owner.rsplit(":", 2)
    if host != _host_name() or not _start_time(os.getpid()):
        return False
    return _start_time(int(pid)) != start_time


@cache
def _host_name() -> str:
    return socket.gethostname()


def _start_time(pid: int) -> str:
    """Field 22 of ``/proc/<pid>/stat`` (proc_pid_stat(5)); empty when there is no such process, or no ``/proc``."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    state, start_time = fields[0], fields[19]
    return "" if state in {"Z", "X"} else start_time
