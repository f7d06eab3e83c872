"""From an open assembly to figures: what each process samples of itself, and what the metrics page asks for."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Generic, TypeVar

from kipuka_core.assemble import Assembly
from kipuka_core.domain.ca_groups import CircuitState
from kipuka_core.domain.ports import TokenHealth
from kipuka_core.edges.http.admin_health import HealthChecks
from kipuka_core.edges.metrics import catalogue
from kipuka_core.edges.metrics.catalogue import Kind, Metric
from kipuka_core.edges.metrics.counters import Counters, Sample
from kipuka_core.edges.metrics.page import Family, MetricsPage
from kipuka_core.live_tls import LiveTls

BUILD_INFO = Metric("kipuka_build_info", Kind.GAUGE, "Always 1; the label says which version serves.", ("version",))
CERTIFICATES = Metric("kipuka_certificates", Kind.GAUGE, "Certificates on record by status.", ("status",))
EXPIRING = Metric(
    "kipuka_certificates_expiring",
    Kind.GAUGE,
    "Active certificates that end within so many days; one that was renewed since is among them.",
    ("days",),
)
OTPS_OUTSTANDING = Metric(
    "kipuka_otps_outstanding", Kind.GAUGE, "One-time passwords that are neither used up, expired nor withdrawn."
)
PART_UP = Metric("kipuka_part_up", Kind.GAUGE, "1 for a part that works, as the health pages have it.", ("part",))
CA_END = Metric("kipuka_ca_not_after_seconds", Kind.GAUGE, "When a CA's certificate ends, seconds since 1970.", ("ca",))
SERVER_END = Metric(
    "kipuka_server_certificate_not_after_seconds",
    Kind.GAUGE,
    "When a listener's certificate ends, seconds since 1970.",
    ("file",),
)
ASKED = (BUILD_INFO, CERTIFICATES, EXPIRING, OTPS_OUTSTANDING, PART_UP, CA_END, SERVER_END)
AnswerT = TypeVar("AnswerT")
_INVENTORY_SECONDS = 60.0
_TOKENS_SECONDS = 5.0


def metrics_page(assembly: Assembly, live: LiveTls, checks: HealthChecks) -> MetricsPage:
    """The page with everything that this process asks for when it is read."""
    page = MetricsPage(assembly.counters if assembly.counters is not None else Counters(None, "admin"))
    inventory = _Remembered(assembly.store.inventory, _INVENTORY_SECONDS)

    async def about_the_server() -> list[Family]:
        parts = await checks.parts()
        return [
            Family(BUILD_INFO, [((version("kipuka"),), 1.0)]),
            Family(PART_UP, [((name,), float(part.is_healthy)) for name, part in parts.items()]),
            Family(SERVER_END, _server_ends(live)),
        ]

    async def about_cas() -> list[Family]:
        ends = []
        for ca_id, backend in assembly.cas.items():
            chain = await backend.chain()
            ends.append(((ca_id,), _seconds(chain.issuing.not_valid_after_utc)))
        return [Family(CA_END, ends)]

    async def about_the_store() -> list[Family]:
        counted = await inventory()
        return [
            Family(CERTIFICATES, [((status,), float(count)) for status, count in counted.certificates.items()]),
            Family(EXPIRING, [((str(days),), float(count)) for days, count in counted.expiring.items()]),
            Family(OTPS_OUTSTANDING, [((), float(counted.usable_otps))]),
        ]

    for collect in (about_the_server, about_cas, about_the_store):
        page.add(collect)
    return page


def process_samples(assembly: Assembly, listener: str) -> Callable[[], Awaitable[Iterable[Sample]]]:
    """How things are in this process, asked once a second."""
    tokens = _Remembered(assembly.tokens, _TOKENS_SECONDS)

    async def samples() -> list[Sample]:
        found: list[Sample] = [
            (catalogue.PROCESSES, (listener,), 1.0),
            (catalogue.EVENT_BACKLOG, (), float(assembly.events.backlog)),
        ]
        found += [(catalogue.STORE_QUEUE, (name,), float(count)) for name, count in assembly.store.queued().items()]
        found += [
            (catalogue.CA_CIRCUITS_OPEN, (group.id, ca_id), float(circuit.state is not CircuitState.CLOSED))
            for group in assembly.road.choice.groups.values()
            for ca_id, circuit in group.circuits.items()
        ]
        for token in await tokens():
            found += _of_token(token)
        return found

    return samples


def _of_token(token: TokenHealth) -> Sequence[Sample]:
    return (
        (catalogue.HSM_SESSIONS, (token.name, "wanted"), float(token.sessions)),
        (catalogue.HSM_SESSIONS, (token.name, "open"), float(token.sessions_open)),
    )


def _server_ends(live: LiveTls) -> list[tuple[tuple[str, ...], float]]:
    material = live.material
    ends = {
        chain.file: _seconds(chain.certificates[0].not_valid_after_utc) for chain in (material.chain, *material.others)
    }
    return [((file,), end) for file, end in ends.items()]


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


class _Remembered(Generic[AnswerT]):
    """The answer of a question that costs something, for a while."""

    def __init__(self, ask: Callable[[], Awaitable[AnswerT]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked_at = float("-inf")
        self._answer: AnswerT | None = None

    async def __call__(self) -> AnswerT:
        if self._answer is None or time.monotonic() - self._asked_at >= self._seconds:
            self._answer = await self._ask()
            self._asked_at = time.monotonic()
        return self._answer
