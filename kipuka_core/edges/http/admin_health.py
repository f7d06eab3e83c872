"""Health pages of the admin listener: what works, what does not, and what the operator should change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from quart import Blueprint
from quart.typing import ResponseReturnValue

from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import TokenHealth
from kipuka_core.edges.http.admin_tokens import tokens_body, tokens_status
from kipuka_core.edges.log import get_logger, redact_text
from kipuka_core.errors import detail_of
from kipuka_core.model.health import HealthStatus as HealthStatus  # noqa: PLC0414  # part of this room's face

log = get_logger()

OPEN_PATHS = frozenset({"/admin/health/live", "/admin/health/ready"})
"""What needs no credential."""
OPEN_ENDPOINTS = frozenset({"kipuka_health.live", "kipuka_health.ready"})
DATABASE = "database"
_AUDIT = "audit "
_CHECKED_AT_MOST_EVERY_SECONDS = 1.0

Ping = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PartHealth:
    """Whether one part works; ``detail`` is empty when it does."""

    detail: str
    latency_ms: float

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.detail

    @property
    def status(self) -> HealthStatus:
        """``healthy`` or ``unhealthy``."""
        return HealthStatus.HEALTHY if self.is_healthy else HealthStatus.UNHEALTHY


def ca_part(ca_id: str) -> str:
    """The name of a CA among the parts."""
    return f"ca {ca_id}"


def audit_part(sink: str) -> str:
    """The name of a required audit sink among the parts."""
    return f"{_AUDIT}{sink}"


class HealthChecks:
    """Whether everything behind the server works; asked at most once a second, however often it is polled.

    ``pings`` by name: ``database``, ``ca ID``, ``auth NAME``, ``keys SCHEME``, ``audit SINK``. They run side by side,
    under the guard's timeout; requests that come meanwhile share their answers.
    """

    def __init__(self, pings: Mapping[str, Ping], guard: Guard, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pings = dict(pings)
        self._guard = guard
        self._clock = clock
        self._parts: Mapping[str, PartHealth] = {}
        self._checked_at = float("-inf")
        self._running: asyncio.Task[None] | None = None

    async def parts(self) -> Mapping[str, PartHealth]:
        """How every part is, by name."""
        if self._running is None and self._clock() - self._checked_at >= _CHECKED_AT_MOST_EVERY_SECONDS:
            self._running = asyncio.create_task(self._check())
        if self._running is not None:
            # Shielded: a client that hangs up does not take the answer from the others.
            await asyncio.shield(self._running)
        return self._parts

    async def problems(self) -> list[str]:
        """The names of what does not work."""
        return sorted(name for name, part in (await self.parts()).items() if not part.is_healthy)

    async def _check(self) -> None:
        try:
            names = list(self._pings)
            found = dict(zip(names, await asyncio.gather(*map(self._ask, names)), strict=True))
            self._say_changes(found)
            self._parts, self._checked_at = found, self._clock()
        finally:
            self._running = None

    async def _ask(self, name: str) -> PartHealth:
        began = self._clock()
        problem = ""
        try:
            await self._guard.call(name, self._pings[name], expect=NoneType)
        except Exception as error:  # noqa: BLE001  # whatever it is, this part does not work
            problem = redact_text(detail_of(error) or type(error).__name__)
        return PartHealth(problem, round((self._clock() - began) * 1000, 3))

    def _say_changes(self, found: Mapping[str, PartHealth]) -> None:
        for name, part in found.items():
            before = self._parts.get(name)
            if not part.is_healthy and (before is None or before.detail != part.detail):
                log.warning("not ready", part=name, problem=part.detail)
            elif part.is_healthy and before is not None and not before.is_healthy:
                log.info("ready again", part=name)


async def _no_tokens() -> Sequence[TokenHealth]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What ``/admin/health`` tells.

    Unhealthy, so that nothing can be issued: the database, every CA or a required audit sink does not work. Degraded:
    something else does not work, a token has lost sessions, or a server certificate that is served has ended
    (``is_certificate_over``). Warnings alone do not make a server degraded: most are about its configuration, and an
    alarm that never ends is none.
    """

    checks: HealthChecks
    version: str
    database_name: str
    """``sqlite`` or ``postgresql``; never the URL, which may hold a password."""
    ca_ids: Sequence[str]
    warnings: Callable[[], Sequence[str]]
    is_certificate_over: Callable[[], bool] = lambda: False
    tokens: Callable[[], Awaitable[Sequence[TokenHealth]]] = _no_tokens
    clock: Callable[[], float] = time.monotonic
    started_at: float
    """By ``clock``."""

    async def all(self) -> tuple[HealthStatus, dict[str, Any]]:
        """The whole page."""
        parts, tokens = await self.checks.parts(), await self.tokens()
        status = self._status(parts, tokens)
        return status, {
            "status": status,
            "version": self.version,
            "uptime_secs": int(self.clock() - self.started_at),
            "database": self._database(parts),
            "hsm": tokens_body(tokens),
            "ca_count": len(self.ca_ids),
            "healthy_ca_count": len(self._healthy_cas(parts)),
            "warnings": [redact_text(warning) for warning in dict.fromkeys(self.warnings())],
        }

    async def database(self) -> tuple[HealthStatus, dict[str, Any]]:
        """The store alone."""
        parts = await self.checks.parts()
        return parts[DATABASE].status, self._database(parts)

    async def cas(self) -> tuple[HealthStatus, dict[str, Any]]:
        """The CAs alone: degraded when some of them work."""
        parts = await self.checks.parts()
        healthy = self._healthy_cas(parts)
        status = HealthStatus.HEALTHY if len(healthy) == len(self.ca_ids) else HealthStatus.DEGRADED
        status = status if healthy else HealthStatus.UNHEALTHY
        cas = [{"id": ca_id, **part_body(parts[ca_part(ca_id)])} for ca_id in self.ca_ids]
        counts = {"ca_count": len(self.ca_ids), "healthy_ca_count": len(healthy)}
        return status, {"status": status, **counts, "cas": cas}

    async def hsm(self) -> tuple[HealthStatus, dict[str, Any]]:
        """The tokens alone."""
        tokens = await self.tokens()
        return tokens_status(tokens), tokens_body(tokens) or {"status": "not_configured"}

    def _status(self, parts: Mapping[str, PartHealth], tokens: Sequence[TokenHealth]) -> HealthStatus:
        is_audited = all(part.is_healthy for name, part in parts.items() if name.startswith(_AUDIT))
        if not parts[DATABASE].is_healthy or not self._healthy_cas(parts) or not is_audited:
            return HealthStatus.UNHEALTHY
        is_token_well = tokens_status(tokens) is HealthStatus.HEALTHY
        if self.is_certificate_over() or not is_token_well or not all(part.is_healthy for part in parts.values()):
            return HealthStatus.DEGRADED
        return HealthStatus.HEALTHY

    def _healthy_cas(self, parts: Mapping[str, PartHealth]) -> list[str]:
        return [ca_id for ca_id in self.ca_ids if parts[ca_part(ca_id)].is_healthy]

    def _database(self, parts: Mapping[str, PartHealth]) -> dict[str, Any]:
        return {"name": self.database_name, **part_body(parts[DATABASE])}


def part_body(part: PartHealth) -> dict[str, Any]:
    """A part as JSON has it."""
    return {"status": part.status, "detail": part.detail, "latency_ms": part.latency_ms}


def health_routes(health: Health) -> Blueprint:
    """The pages. Those of ``OPEN_PATHS`` say no more than the names of what fails: what is wrong is in the log."""
    routes = Blueprint("kipuka_health", __name__, url_prefix="/admin/health")

    @routes.get("")
    async def whole() -> ResponseReturnValue:
        return _answer(*await health.all())

    @routes.get("/db")
    async def database() -> ResponseReturnValue:
        return _answer(*await health.database())

    @routes.get("/ca")
    async def cas() -> ResponseReturnValue:
        return _answer(*await health.cas())

    @routes.get("/hsm")
    async def hsm() -> ResponseReturnValue:
        return _answer(*await health.hsm())

    @routes.get("/live")
    async def live() -> ResponseReturnValue:
        return {"status": "alive"}

    @routes.get("/ready")
    async def ready() -> ResponseReturnValue:
        problems = await health.checks.problems()
        return {"status": "not_ready" if problems else "ready", "failing": problems}, 503 if problems else 200

    return routes


def _answer(status: HealthStatus, body: dict[str, Any]) -> ResponseReturnValue:
    return body, 503 if status is HealthStatus.UNHEALTHY else 200
