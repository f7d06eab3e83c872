"""Health by its parts: what is healthy, degraded and unhealthy, how often plugins are asked, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from quart import Quart

from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import TokenHealth
from kipuka_core.edges.http.admin_health import Health, HealthChecks, health_routes

PARTS = ("database", "ca one", "ca two", "auth otp")


@dataclass
class Site:
    """Four parts that work until they are broken, and a clock that is moved by hand."""

    broken: dict[str, Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_over: bool = False
    now: float = 1000.0
    timeout_seconds: float = 10.0
    tokens: list[TokenHealth] = field(default_factory=list)

    def __post_init__(self) -> None:
        pings = {part: self.ping(part) for part in PARTS}
        self.checks = HealthChecks(pings, Guard(self.timeout_seconds), clock=lambda: self.now)
        self.health = Health(
            checks=self.checks,
            version="1.2.3",
            database_name="sqlite",
            ca_ids=("one", "two"),
            warnings=lambda: self.warnings,
            is_certificate_over=lambda: self.is_over,
            tokens=self._tokens,
            clock=lambda: self.now,
            started_at=900.5,
        )
        self.app = Quart("test")
        self.app.register_blueprint(health_routes(self.health))

    async def _tokens(self) -> list[TokenHealth]:
        return self.tokens

    def ping(self, part: str) -> Callable[[], Any]:
        async def ping() -> None:
            self.asked.append(part)
            await asyncio.sleep(0)
            if part in self.broken:
                raise self.broken[part]

        return ping

    async def page(self, path: str = "") -> tuple[int, Any]:
        self.now += 1
        answer = await self.app.test_client().get(f"/admin/health{path}")
        return answer.status_code, await answer.get_json()

    def break_(self, *parts: str) -> None:
        self.broken = {part: OSError(f"{part} is away") for part in parts}


@pytest.fixture
def site() -> Site:
    return Site()


async def test_when_all_works_all_is_healthy(site: Site) -> None:
    assert await site.page() == (
        200,
        {
            "status": "healthy",
            "version": "1.2.3",
            "uptime_secs": 100,
            "database": {"name": "sqlite", "status": "healthy", "detail": "", "latency_ms": 0.0},
            "hsm": None,
            "ca_count": 2,
            "healthy_ca_count": 2,
            "warnings": [],
        },
    )


@pytest.mark.parametrize(
    ("broken", "whole", "database", "cas", "healthy_cas"),
    [
        ([], "healthy", "healthy", "healthy", 2),
        (["database"], "unhealthy", "unhealthy", "healthy", 2),
        (["ca one"], "degraded", "healthy", "degraded", 1),
        (["ca one", "ca two"], "unhealthy", "healthy", "unhealthy", 0),
        (["auth otp"], "degraded", "healthy", "healthy", 2),
        (list(PARTS), "unhealthy", "unhealthy", "unhealthy", 0),
    ],
)
async def test_what_each_page_says_of_what_is_broken(
    site: Site, broken: list[str], whole: str, database: str, cas: str, healthy_cas: int
) -> None:
    site.break_(*broken)
    status, body = await site.page()
    assert (status, body["status"]) == (503 if whole == "unhealthy" else 200, whole)
    assert (body["ca_count"], body["healthy_ca_count"]) == (2, healthy_cas)
    status, body = await site.page("/db")
    assert (status, body["status"]) == (503 if database == "unhealthy" else 200, database)
    status, body = await site.page("/ca")
    assert (status, body["status"]) == (503 if cas == "unhealthy" else 200, cas)
    assert [each["id"] for each in body["cas"]] == ["one", "two"]
    assert [each["status"] == "unhealthy" for each in body["cas"]] == ["ca one" in broken, "ca two" in broken]
    assert await site.page("/hsm") == (200, {"status": "not_configured"})
    assert await site.page("/live") == (200, {"status": "alive"})
    ready = {"status": "not_ready" if broken else "ready", "failing": sorted(broken)}
    assert await site.page("/ready") == (503 if broken else 200, ready)


async def test_a_server_certificate_that_has_ended_is_degraded_and_warnings_alone_are_not(site: Site) -> None:
    site.warnings = ["one", "two", "one"]
    _, body = await site.page()
    assert (body["status"], body["warnings"]) == ("healthy", ["one", "two"])
    site.is_over = True
    status, body = await site.page()
    assert (status, body["status"]) == (200, "degraded")


@pytest.mark.parametrize(
    ("sessions_open", "problem", "status"),
    [(4, "", "healthy"), (3, "the token gave no answer within 5 s", "degraded"), (0, "DeviceRemoved", "unhealthy")],
)
async def test_a_token_is_shown_with_its_sessions(site: Site, sessions_open: int, problem: str, status: str) -> None:
    site.tokens = [TokenHealth(name="token 'one'", sessions=4, sessions_open=sessions_open, problem=problem)]
    token = {"name": "token 'one'", "status": status, "sessions": 4, "sessions_open": sessions_open, "detail": problem}
    body = {"status": status, "tokens": [token]}
    assert await site.page("/hsm") == (503 if status == "unhealthy" else 200, body)
    code, whole = await site.page()
    assert whole["hsm"] == body
    assert (code, whole["status"]) == (200, "healthy" if status == "healthy" else "degraded")


async def test_a_secret_in_a_warning_is_not_shown(site: Site) -> None:
    site.warnings = ["db.url: postgresql://kipuka:hunter2@db/kipuka cannot be reached"]
    _, body = await site.page()
    assert "hunter2" not in str(body)


async def test_the_open_page_says_what_fails_and_not_why(site: Site) -> None:
    site.broken = {"database": OSError("postgresql://kipuka:hunter2@db.internal")}
    assert await site.page("/ready") == (503, {"status": "not_ready", "failing": ["database"]})
    _, body = await site.page("/db")
    assert "hunter2" not in str(body)
    assert body["detail"]


async def test_a_part_that_hangs_is_unhealthy_after_the_plugin_timeout() -> None:
    site = Site(timeout_seconds=0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    site.checks = HealthChecks({"ca one": hang, "database": site.ping("database")}, Guard(0.05), clock=lambda: site.now)
    assert await site.checks.problems() == ["ca one"]


async def test_parts_are_asked_at_most_once_a_second_and_many_askers_share_an_answer(site: Site) -> None:
    await asyncio.gather(*(site.checks.parts() for _ in range(50)))
    assert sorted(site.asked) == sorted(PARTS)
    site.now += 0.9
    await site.checks.parts()
    assert len(site.asked) == len(PARTS)
    site.now += 0.1
    await site.checks.parts()
    assert len(site.asked) == 2 * len(PARTS)


async def test_an_asker_that_hangs_up_takes_the_answer_from_nobody(site: Site) -> None:
    first = asyncio.create_task(site.checks.problems())
    second = asyncio.create_task(site.checks.problems())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == []
    with pytest.raises(asyncio.CancelledError):
        await first
    assert sorted(site.asked) == sorted(PARTS)


async def test_what_works_again_is_healthy_again(site: Site) -> None:
    site.break_("database")
    assert (await site.page("/ready"))[0] == 503
    site.break_()
    assert (await site.page("/ready"))[0] == 200
