"""The first page: whether the server works, what was issued, what ends soon, what was refused and why."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from quart import Blueprint, render_template
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http.console.chart import Bar, bars
from kipuka_core.edges.http.console.services import ConsoleServices
from kipuka_core.errors import StoreUnavailable
from kipuka_core.model.record import RequestState
from kipuka_core.model.search import CertificateQuery, EventQuery, PageWanted, SearchStatus

DAYS_SHOWN = 30
_EXPIRING_DAYS = 30
_EXPIRING_SHOWN = 10
_FAILURE_DAYS = 7
_FAILURES_READ = 1000
_KEPT_SECONDS = 15
_FAILURES = {"enrolment_refused": "code", "handshake_failed": "cause", "admin_refused": "code"}
"""The events that are failures, and the field that has the cause."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One cause, in the last days."""

    event: str
    cause: str
    count: int
    last_at: str
    last_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the page says of the records."""

    made_at: datetime
    bars: Sequence[Bar]
    issued: int
    most_issued: int
    """On one day."""
    active: str
    revoked: str
    expiring: Any
    waiting: str
    passwords: str
    lockouts: int
    failures: Sequence[Failure]
    are_failures_all: bool


class _Figures:
    """Counted at most every few seconds, however many people look."""

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services
        self._kept: Figures | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> Figures:
        """Raises StoreUnavailable."""
        async with self._lock:
            now = self._services.clock()
            if self._kept is None or not timedelta(0) <= now - self._kept.made_at < timedelta(seconds=_KEPT_SECONDS):
                self._kept = await self._count(now)
            return self._kept

    async def _count(self, now: datetime) -> Figures:
        administration = self._services.administration
        certificates, one = administration.certificates, PageWanted(limit=1)
        ending = CertificateQuery(status=SearchStatus.ACTIVE, expires_before=now + timedelta(days=_EXPIRING_DAYS))
        failures, are_all = await self._failures(now)
        by_day = await administration.store.issued_by_day(_first_day(now), now)
        return Figures(
            made_at=now,
            bars=bars(_every_day(by_day, now)),
            issued=sum(by_day.values()),
            most_issued=max(by_day.values(), default=0),
            active=(await certificates.search(CertificateQuery(status=SearchStatus.ACTIVE), one)).total_text,
            revoked=(await certificates.search(CertificateQuery(status=SearchStatus.REVOKED), one)).total_text,
            expiring=await certificates.search(ending, PageWanted(limit=_EXPIRING_SHOWN)),
            waiting=(await administration.requests.list(one, state=RequestState.WAITING)).total_text,
            passwords=(await administration.otps.list(one)).total_text,
            lockouts=len(await administration.lockouts.list()),
            failures=failures,
            are_failures_all=are_all,
        )

    async def _failures(self, now: datetime) -> tuple[list[Failure], bool]:
        found: dict[tuple[str, str], Failure] = {}
        are_all = True
        for event, field in _FAILURES.items():
            query = EventQuery(event=event, since=now - timedelta(days=_FAILURE_DAYS))
            page = await self._services.administration.audit(query, PageWanted(limit=_FAILURES_READ))
            are_all = are_all and page.next is None
            for fact in page.items:  # newest first
                cause, count = str(fact.get(field, "")), int(fact.get("count", 1))
                key = (event, cause)
                before = found.get(key)
                if before is None:
                    found[key] = Failure(event, cause, count, fact["time"], str(fact.get("reason", "")))
                else:
                    found[key] = Failure(event, cause, before.count + count, before.last_at, before.last_reason)
        return sorted(found.values(), key=lambda each: (-each.count, each.event, each.cause)), are_all


def _first_day(now: datetime) -> datetime:
    return (now - timedelta(days=DAYS_SHOWN - 1)).replace(hour=0, minute=0, second=0, microsecond=0)


def _every_day(by_day: Mapping[date, int], now: datetime) -> list[tuple[date, int]]:
    first = _first_day(now).date()
    return [(day, by_day.get(day, 0)) for day in (first + timedelta(days=number) for number in range(DAYS_SHOWN))]


def pages(services: ConsoleServices) -> Blueprint:
    """The page."""
    routes = Blueprint("console_overview", __name__)
    figures = _Figures(services)

    @routes.get("/console/")
    async def overview() -> ResponseReturnValue:
        status, health = await services.health.all()
        try:
            counted = await figures.current()
        except StoreUnavailable:  # then this page says so, which is what it is for
            counted = None
        return await render_template(
            "overview.html",
            status=status,
            health=health,
            since=services.clock() - timedelta(seconds=health["uptime_secs"]),
            problems={
                name: part.detail for name, part in (await services.health.checks.parts()).items() if part.detail
            },
            figures=counted,
            days=DAYS_SHOWN,
            expiring_days=_EXPIRING_DAYS,
            failure_days=_FAILURE_DAYS,
            failures_read=_FAILURES_READ,
        )

    return routes
