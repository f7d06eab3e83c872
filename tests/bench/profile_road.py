"""Where the time goes: the server in this process, under load, its event loop's thread under cProfile.

First a run without the profiler says how much CPU each thread uses; cProfile then says what the event loop's thread
does. It makes Python calls look dearer than they are beside cryptography: read its shares as an order, not as a bill.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kipuka_core.assemble import Assembly, assemble
from kipuka_core.config import load
from kipuka_core.edges import log
from kipuka_core.edges.serving.listener import Listener, ListenerLimits
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.serving.supervisor import run_event_loop
from kipuka_core.edges.tls.context import build_context
from kipuka_core.edges.tls.peer import PeerReader
from kipuka_core.edges.tls.scope import describe_with
from kipuka_core.listeners import est_tls
from tests.bench.cores import Cores, running_on, thread_cpu_seconds
from tests.bench.rooms import shares
from tests.bench.scenarios import Scenario
from tests.bench.servers import Target, generate, prepare, warm_up

_WARMUP_SECONDS = 0.3


def profile(wanted: Sequence[Scenario], cores: Cores, measured: list[str]) -> list[str]:
    """Threads and rooms of each scenario; ``measured`` is the generator's flag for how long."""
    lines: list[str] = []

    async def main() -> int:
        for scenario in wanted:
            lines.extend(await _profile(scenario, cores, measured))
        return 0

    with running_on(cores.server):
        run_event_loop(main)
    return lines


async def _profile(scenario: Scenario, cores: Cores, measured: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="kipuka-profile-") as name:
        deployment = prepare(Path(name) / "deployment", scenario.key_type)
        log_file = (deployment.directory / "server.log").open("w", encoding="utf-8")
        with log_file:
            log.configure(log_file)
            async with assemble(load(deployment.toml, os.environ)) as assembly, _listening(assembly) as target:
                await asyncio.to_thread(warm_up, target, cores)
                return await _measured(scenario, target, cores, measured)


async def _measured(scenario: Scenario, target: Target, cores: Cores, measured: list[str]) -> list[str]:
    async def run() -> dict[str, Any]:
        flags = scenario.flags("", "profile", 1)
        return await asyncio.to_thread(generate, target, flags, cores, warmup=_WARMUP_SECONDS, measured=measured)

    before = _by_thread()
    result = await run()
    used = _by_thread() - before
    profiler = cProfile.Profile(time.thread_time)
    profiler.enable()
    try:
        await run()
    finally:
        profiler.disable()
    return [
        "",
        f"{scenario.name}: {result['server_ms_per_req']:.3f} ms of CPU per request",
        *_percentages(used, "thread"),
        *_percentages(shares(pstats.Stats(profiler)), "of the event loop's thread"),
    ]


@asynccontextmanager
async def _listening(assembly: Assembly) -> AsyncIterator[Target]:
    tls = await est_tls(assembly)
    context = build_context(tls)
    bound = bind_socket("127.0.0.1:0")
    listener = Listener(
        assembly.est,
        bound,
        limits=ListenerLimits(),
        ssl_context=lambda: context,
        describe=describe_with(PeerReader(tls.anchors)),
    )
    listener.start()
    try:
        yield Target(os.getpid(), bound.getsockname()[1])
    finally:
        await listener.drain()


def _by_thread() -> Counter[str]:
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    used: Counter[str] = Counter()
    for task in Path("/proc/self/task").iterdir():
        used[names.get(int(task.name), "native")] += round(1000 * thread_cpu_seconds(int(task.name)))
    return used


def _percentages(amounts: Counter[str], what: str) -> list[str]:
    total = sum(amounts.values()) or 1
    lines = [f"  {100 * amount / total:5.1f} %  {name}" for name, amount in amounts.most_common()]
    return [f"  share   {what}", *lines]
