"""The generated page ``docs/metrics.md``: every metric, from the places that declare them."""

from __future__ import annotations

from kipuka_core.edges.metrics.catalogue import BUCKETS_SECONDS, COUNTED, SAMPLED, Kind, Metric
from kipuka_core.measuring import ASKED

_SECTIONS = (
    ("Counted", "Each process counts these for itself. They begin at zero when the server starts.", COUNTED),
    ("Sampled", "Once a second each process writes down how this is in it; the page has the sum.", SAMPLED),
    ("Asked for", "Whoever reads the page has this looked up, in the database at most once a minute.", ASKED),
)


def metrics_text(note: str) -> str:
    """The page; ``note`` says what it is made from."""
    lines = ["# Metrics", "", note]
    lines += [
        "`GET /admin/metrics` has them for Prometheus. [Monitoring](monitoring.md) tells how to read it, what to watch",
        "and what the labels may hold.",
        "",
    ]
    for name, about, metrics in _SECTIONS:
        lines += [f"## {name}", "", about, "", "| metric | type | labels | help |", "|---|---|---|---|"]
        lines += [*map(_row, metrics), ""]
    bounds = ", ".join(f"{each:g}" for each in BUCKETS_SECONDS)
    lines += [f"The upper bounds of the buckets of a histogram are {bounds} seconds and infinity."]
    return "\n".join(lines)


def _row(metric: Metric) -> str:
    name = f"{metric.name}_total" if metric.kind is Kind.COUNTER else metric.name
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    return f"| `{name}` | {metric.kind} | {labels} | {metric.about} |"
