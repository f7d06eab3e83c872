"""The figures of one process, and its file with them.

Counting is an addition in a dictionary. Once a second the process writes all its figures into a file of its own, whole
or not at all (a rename), so that a process which is killed takes a second's figures with it and nothing else. Who takes
its place goes on with what the file says: a counter never goes back while the server runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from kipuka_core.edges.log import get_logger
from kipuka_core.edges.metrics.catalogue import BUCKETS_SECONDS, Metric

log = get_logger()

Labels = tuple[str, ...]
Sample = tuple[Metric, Labels, float]
Sampler = Callable[[], Awaitable[Iterable[Sample]]]
SUFFIX = ".json"
WRITE_SECONDS = 1.0
_BUCKETS = len(BUCKETS_SECONDS) + 1
_MAX_SERIES = 2000
"""Of one metric. A defect that makes labels without end shall not take the memory of the server."""


class Timing:
    """Times one step; used once."""

    __slots__ = ("_began", "_counters", "_key", "_metric")

    def __init__(self, counters: Counters, metric: str, key: Labels) -> None:
        self._counters, self._metric, self._key = counters, metric, key

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._counters.observe(self._metric, self._key, time.perf_counter() - self._began)


class Counters:
    """The figures; ``slot`` names this process among those of the server, and the one that takes its place."""

    def __init__(self, directory: Path | None, slot: str) -> None:
        """``directory`` None: nothing is written. What the file of the slot says is taken over."""
        self._file = directory / f"{slot}{SUFFIX}" if directory else None
        self._counts: dict[str, dict[Labels, float]] = {}
        self._times: dict[str, dict[Labels, list[float]]] = {}
        self._samplers: list[Sampler] = []
        self._has_failed = False
        self._written = ""
        self._take_over()

    def add(self, metric: str, labels: Labels = (), amount: float = 1.0) -> None:
        """Count."""
        series = self._counts.setdefault(metric, {})
        if labels not in series and len(series) >= _MAX_SERIES:
            return
        series[labels] = series.get(labels, 0.0) + amount

    def observe(self, metric: str, labels: Labels, seconds: float) -> None:
        """Count a duration: in its bucket, and in the sum behind the buckets."""
        series = self._times.setdefault(metric, {})
        values = series.get(labels)
        if values is None:
            values = series[labels] = [0.0] * (_BUCKETS + 1)
        values[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        values[-1] += seconds

    def sample(self, sampler: Sampler) -> None:
        """Have ``sampler`` asked before every writing for how things are now in this process."""
        self._samplers.append(sampler)

    async def run(self) -> None:
        """Write the figures down once a second, until cancelled; then once more."""
        try:
            while True:
                await self.write()
                await asyncio.sleep(WRITE_SECONDS)
        finally:
            self._write({})  # of a process that has ended there is nothing to sample

    async def write(self) -> None:
        """Write the figures down now."""
        gauges: dict[str, list[tuple[Labels, float]]] = {}
        for sampler in self._samplers:
            try:
                for metric, labels, value in await sampler():
                    gauges.setdefault(metric.name, []).append((labels, value))
            except Exception as error:  # noqa: BLE001  # whatever it is, the other figures are right
                log.debug("a figure is missing", exception=type(error).__name__)
        self._write(gauges)

    def of_all_processes(self) -> Sequence[Figures]:
        """The figures of every process as they were last written; without a directory those of this one."""
        if self._file is None:
            return [Figures(self._written)] if self._written else []
        found = (read_figures(file) for file in sorted(self._file.parent.glob(f"*{SUFFIX}")))
        return [figures for figures in found if figures is not None]

    def _write(self, gauges: dict[str, list[tuple[Labels, float]]]) -> None:
        figures = {
            "counts": {metric: list(series.items()) for metric, series in self._counts.items()},
            "times": {metric: list(series.items()) for metric, series in self._times.items()},
            "gauges": gauges,
            "at": time.time(),
        }
        self._written = json.dumps(figures)
        if self._file is None:
            return
        draft = self._file.with_suffix(".draft")
        try:
            draft.write_text(self._written, encoding="utf-8")
            draft.replace(self._file)
        except OSError as error:
            if not self._has_failed:
                log.warning("metrics cannot be written", problem=error.strerror, file=str(self._file))
            self._has_failed = True
        else:
            self._has_failed = False

    def _take_over(self) -> None:
        figures = read_figures(self._file) if self._file else None
        if figures is not None:
            self._counts, self._times = figures.counts, figures.times


class Figures:
    """What a file says."""

    __slots__ = ("at", "counts", "gauges", "times")

    def __init__(self, content: str) -> None:
        """Raises ValueError, KeyError or TypeError for what is none."""
        parsed = json.loads(content)
        self.at = float(parsed["at"])
        self.counts: dict[str, dict[Labels, float]] = {
            metric: {tuple(labels): float(value) for labels, value in series}
            for metric, series in parsed["counts"].items()
        }
        self.times: dict[str, dict[Labels, list[float]]] = {
            metric: {tuple(labels): [float(value) for value in values] for labels, values in series}
            for metric, series in parsed["times"].items()
        }
        self.gauges: dict[str, dict[Labels, float]] = {
            metric: {tuple(labels): float(value) for labels, value in series}
            for metric, series in parsed["gauges"].items()
        }


def read_figures(file: Path) -> Figures | None:
    """The figures in a file, None when there are none or they are none of ours."""
    try:
        return Figures(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def fresh_directory(state_dir: Path, *, is_shared: bool) -> Path | None:
    """An empty directory for the figures of a server that starts; None where there can be none.

    ``is_shared``: another server runs with this state directory, whose figures are left alone.
    """
    directory = state_dir / "run" / (f"metrics-{os.getpid()}" if is_shared else "metrics")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in directory.iterdir():
            file.unlink()
    except OSError as error:
        log.warning("metrics cannot be shared by processes", problem=error.strerror, directory=str(directory))
        return None
    return directory
