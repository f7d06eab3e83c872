"""Which core serves and which ones generate load, and what a process has used of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CPU_CLOCK = 2
"""With a process id above it, the id of that process's CPU clock: what clock_getcpuclockid(3) computes."""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the server under test, and the cores of everything else; the same one where there is only one."""

    server: frozenset[int]
    rest: frozenset[int]

    @property
    def are_shared(self) -> bool:
        """Whether generator and server take turns on one core."""
        return not self.server.isdisjoint(self.rest)


def available_cores() -> Cores:
    """The lowest core that this process may use serves, the others are the rest."""
    first, *others = sorted(os.sched_getaffinity(0))
    return Cores(frozenset({first}), frozenset(others or {first}))


@contextmanager
def running_on(cores: AbstractSet[int]) -> Iterator[None]:
    """Run the calling thread on these cores; processes and threads that it starts meanwhile stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin_process(pid: int, cores: AbstractSet[int]) -> None:
    """Move every thread of a process to these cores; threads that it starts later inherit that."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


def thread_cpu_seconds(thread_id: int) -> float:
    """User and system time of a thread of this process (proc(5), fields 14 and 15 of ``stat``)."""
    fields = Path(f"/proc/self/task/{thread_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def process_cpu_seconds(pid: int) -> float:
    """What all threads of a process have used, ended ones too."""
    return time.clock_gettime(~pid << 3 | _CPU_CLOCK)


def resident_mib(pid: int) -> float:
    """Resident memory of a process (VmRSS)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
