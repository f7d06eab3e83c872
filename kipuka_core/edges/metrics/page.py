"""The page ``/admin/metrics``: the figures of all processes together, and what is asked for at the moment."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kipuka_core.edges.log import get_logger
from kipuka_core.edges.metrics.catalogue import BUCKETS_SECONDS, COUNTED, SAMPLED, Kind, Metric
from kipuka_core.edges.metrics.counters import Counters, Figures, Labels

if TYPE_CHECKING:  # importing it takes a quarter of a second, which only the first reader of the page waits for
    from prometheus_client import Metric as Exposed

log = get_logger()

_FRESH_SECONDS = 15.0
"""A process that has not written for so long does not serve; its counters stay, how it was is over."""
Collect = Callable[[], Awaitable[Iterable["Family"]]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its samples, as a collector gives it."""

    metric: Metric
    samples: Sequence[tuple[Labels, float]]


@dataclass(slots=True)
class MetricsPage:
    """Renders the page: ``counters`` are this process's, in whose directory all others write theirs."""

    counters: Counters
    _collectors: list[Collect] = field(default_factory=list)

    def add(self, collect: Collect) -> None:
        """Have ``collect`` asked at every scrape. Each has metrics of its own; one that fails is left out."""
        self._collectors.append(collect)

    async def text(self) -> tuple[bytes, str]:
        """The page and its content type."""
        await self.counters.write()
        families = await self._collected()
        return await asyncio.to_thread(self._render, families)

    async def _collected(self) -> list[Family]:
        found = await asyncio.gather(*(collect() for collect in self._collectors), return_exceptions=True)
        families: list[Family] = []
        for each in found:
            if isinstance(each, BaseException):
                log.warning("metrics are missing", exception=type(each).__name__, problem=str(each))
            else:
                families += each
        return families

    def _render(self, families: list[Family]) -> tuple[bytes, str]:
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest  # noqa: PLC0415
        from prometheus_client.registry import Collector, CollectorRegistry  # noqa: PLC0415

        figures = self.counters.of_all_processes()

        class All(Collector):
            def collect(self) -> Iterator[Exposed]:
                yield from _counted(figures)
                yield from (_exposed(family) for family in (*_sampled(figures), *families))

            def describe(self) -> Iterable[Exposed]:
                return ()

        registry = CollectorRegistry(auto_describe=False)
        registry.register(All())
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _counted(figures: Sequence[Figures]) -> Iterator[Exposed]:
    for metric in COUNTED:
        if metric.kind is Kind.HISTOGRAM:
            yield _histogram(metric, figures)
            continue
        sums: dict[Labels, float] = defaultdict(float)
        if not metric.labels:
            sums[()] = 0.0
        for each in figures:
            for labels, value in each.counts.get(metric.name, {}).items():
                sums[labels] += value
        yield _exposed(Family(metric, sorted(sums.items())))


def _sampled(figures: Sequence[Figures]) -> Iterator[Family]:
    now = time.time()
    fresh = [each for each in figures if now - each.at < _FRESH_SECONDS]
    for metric in SAMPLED:
        sums: dict[Labels, float] = defaultdict(float)
        for each in fresh:
            for labels, value in each.gauges.get(metric.name, {}).items():
                sums[labels] += value
        yield Family(metric, sorted(sums.items()))


def _histogram(metric: Metric, figures: Sequence[Figures]) -> Exposed:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    sums: dict[Labels, list[float]] = {}
    for each in figures:
        for labels, values in each.times.get(metric.name, {}).items():
            known = sums.setdefault(labels, [0.0] * len(values))
            sums[labels] = [one + other for one, other in zip(known, values, strict=True)]
    exposed = HistogramMetricFamily(metric.name, metric.about, labels=metric.labels)
    bounds = [*map(str, BUCKETS_SECONDS), "+Inf"]
    for labels, (*counts, seconds) in sorted(sums.items()):
        so_far, buckets = 0.0, []
        for bound, count in zip(bounds, counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        exposed.add_metric(labels, buckets, seconds)
    return exposed


def _exposed(family: Family) -> Exposed:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

    metric = family.metric
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    exposed = kind(metric.name, metric.about, labels=metric.labels)
    for labels, value in family.samples:
        exposed.add_metric(labels, value)
    return exposed
