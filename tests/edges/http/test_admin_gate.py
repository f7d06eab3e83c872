"""The gate: who comes through, what is counted and recorded, and what a client reads of its refusal."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from quart import Blueprint, g

from kipuka_core.administration import AdminStanding
from kipuka_core.config.sections.server import Admin
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.edges.http.admin import admin_app
from kipuka_core.edges.http.admin_credentials import AdminRule
from kipuka_core.edges.http.admin_gate import AdminGate
from kipuka_core.edges.http.admin_health import Health, HealthChecks, health_routes
from kipuka_core.edges.http.admin_refusals import RefusalCounter
from kipuka_core.model.event import AdminRefused, Event
from kipuka_core.model.record import CertificateStatus
from kipuka_core.model.revocation import RevocationAnswer, RevocationStatus
from kipuka_core.testing.fakes import FakeStore
from kipuka_core.testing.pki import Leaf, make_root, name

ADMIN_CA = make_root("Admin Root CA").subordinate("Admin CA")
OWN_CA = make_root("Own Root CA").subordinate("Own Issuing CA")
FORMER_CA = make_root("Former CA")
ANA = ADMIN_CA.leaf(subject=name("Ana", O="Example"))
BEN = ADMIN_CA.leaf(subject=name("Ben", O="Example"))
EVE = ADMIN_CA.leaf("Eve")
DEVICE = OWN_CA.leaf("device")


@dataclass
class Source:
    """What ``[revocation]`` says of every certificate."""

    status: RevocationStatus = RevocationStatus.GOOD

    async def status_of(self, _chain: Sequence[x509.Certificate], _now: datetime) -> RevocationAnswer:
        return RevocationAnswer(self.status, "as the test says")


@dataclass
class Site:
    """The admin application, its store, and the events that came of requests."""

    store: FakeStore = field(default_factory=FakeStore)
    source: Source | None = None
    limit: int = 300
    events: list[Event] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    async def emit(self, event: Event) -> None:
        self.events.append(event)

    announce = emit

    def __post_init__(self) -> None:
        lists = Admin.model_validate({"operators": ["CN=Ana,O=Example"], "viewers": ["CN=Ben,O=Example"]})
        anchors = [each.certificate for each in (ADMIN_CA, OWN_CA, FORMER_CA)]
        rule = AdminRule(
            anchors=lambda: anchors,
            own_issuers=lambda: OWN_CA.chain,
            operators=lists.operators,
            viewers=lists.viewers,
        )
        standing = CertificateStanding(
            store=self.store,  # type: ignore[arg-type]  # the part of a store that is asked
            source=self.source,
            soft_fail=False,
            own_issuers=lambda: OWN_CA.chain,
        )
        gate = AdminGate(
            rule=rule,
            standing=AdminStanding(standing),
            events=self,
            clock=lambda: datetime.now(UTC),
            refusals=RefusalCounter(limit=self.limit),
        )
        checks = HealthChecks({"database": self.store.ping}, Guard(timeout_seconds=10))
        health = Health(checks=checks, version="1", database_name="sqlite", ca_ids=(), warnings=list, started_at=0.0)
        self.app = admin_app(gate, [health_routes(health)], [self.things()])

    def things(self) -> Blueprint:
        routes = Blueprint("things", __name__)

        @routes.get("/all")
        async def look() -> dict[str, str]:
            return {"administrator": g.administrator.name, "role": g.administrator.role}

        @routes.post("/all")
        async def change() -> dict[str, str]:
            self.done.append(g.administrator.name)
            return {"done": "yes"}

        @routes.get("/crash")
        async def crash() -> dict[str, str]:
            raise ValueError("a secret")

        return routes

    async def ask(
        self,
        leaf: Leaf | None = None,
        path: str = "/admin/things/all",
        *,
        method: str = "GET",
        client: str = "192.0.2.7",
    ) -> tuple[int, Any, Any]:
        """Status, body and headers of a request on a connection whose client has this certificate."""
        tester: Any = self.app.test_client()  # its protocol wants a body
        scope = {**scope_of(leaf), "client": (client, 1)}
        answer = await tester.open(path, method=method, scope_base=scope)
        body = await answer.get_json() if answer.content_type == "application/json" else await answer.get_data()
        return answer.status_code, body, answer.headers

    async def status(self, leaf: Leaf | None = None, path: str = "/admin/things/all", **how: str) -> int:
        return (await self.ask(leaf, path, **how))[0]

    def refused(self) -> list[str]:
        """The codes of the events so far."""
        return [event.code for event in self.events if isinstance(event, AdminRefused)]


def scope_of(leaf: Leaf | None) -> dict[str, Any]:
    chain = (leaf.certificate, *leaf.chain) if leaf else ()
    pems = [ssl.DER_cert_to_PEM_cert(each.public_bytes(Encoding.DER)) for each in chain]
    return {"extensions": {"tls": {"client_cert_chain": pems, "client_cert_error": None, "tls_version": 0x0304}}}


@pytest.fixture
def site() -> Site:
    return Site()


async def test_operators_and_viewers_look_and_only_operators_change(site: Site) -> None:
    assert (await site.ask(ANA))[:2] == (200, {"administrator": "CN=Ana,O=Example", "role": "operator"})
    assert (await site.ask(BEN))[:2] == (200, {"administrator": "CN=Ben,O=Example", "role": "viewer"})
    assert await site.status(BEN, method="HEAD") == 200
    assert await site.status(ANA, method="POST") == 200
    status, body, _ = await site.ask(BEN, method="POST")
    assert (status, body["error"]) == (403, "forbidden")
    assert site.done == ["CN=Ana,O=Example"]
    assert site.refused() == ["viewer"]


@pytest.mark.parametrize(
    ("leaf", "status", "error", "code", "actor"),
    [
        (None, 401, "unauthorized", "no_credential", ""),
        (DEVICE, 401, "unauthorized", "enrolment_certificate", ""),
        (ADMIN_CA.subordinate("Below").leaf("Ana"), 401, "unauthorized", "unknown_issuer", ""),
        (EVE, 403, "forbidden", "not_listed", "CN=Eve"),
    ],
    ids=["none", "enrolment", "unlisted intermediate", "unlisted subject"],
)
async def test_a_refusal_is_json_and_an_event(
    site: Site, leaf: Leaf | None, status: int, error: str, code: str, actor: str
) -> None:
    seen, body, headers = await site.ask(leaf)
    assert (seen, body["error"]) == (status, error)
    assert set(body) == {"error", "message"}
    assert ("WWW-Authenticate" in headers) is (status == 401)
    assert headers["Cache-Control"] == "no-store"
    (event,) = site.events
    assert isinstance(event, AdminRefused)
    assert (event.code, event.actor, event.source_address, event.path) == (
        code,
        actor,
        "192.0.2.7",
        "/admin/things/all",
    )
    assert event.tls_version == "TLSv1.3"


async def test_a_certificate_that_the_edge_has_given_up_is_none(site: Site) -> None:
    scope = scope_of(ANA)
    scope["extensions"]["tls"]["client_cert_error"] = "not accepted any more"
    assert (await site.app.test_client().get("/admin/things/all", scope_base=scope)).status_code == 401


async def test_a_connection_without_tls_has_no_credential(site: Site) -> None:
    assert (await site.app.test_client().get("/admin/things/all")).status_code == 401
    assert (await site.app.test_client().get("/admin/health/live")).status_code == 200


async def test_a_recorded_certificate_is_an_enrolment_whatever_its_issuer_is_now(site: Site) -> None:
    device = FORMER_CA.leaf(subject=name("Ana", O="Example"))
    assert await site.status(device) == 200
    site.store.record(device.certificate, FORMER_CA.certificate)
    assert await site.status(device) == 401
    site.store.record(device.certificate, FORMER_CA.certificate, status=CertificateStatus.REVOKED)
    assert await site.status(device) == 401
    assert site.refused() == ["enrolment_certificate", "enrolment_certificate"]


async def test_revocation_is_asked_on_every_request() -> None:
    source = Source()
    site = Site(source=source)
    assert await site.status(ANA) == 200
    source.status = RevocationStatus.REVOKED
    assert await site.status(ANA) == 401
    assert await site.status(ANA, "/admin/health") == 401
    source.status = RevocationStatus.UNKNOWN
    status, body, headers = await site.ask(ANA)
    assert (status, body["error"]) == (503, "revocation_unknown")
    assert int(headers["Retry-After"]) > 0
    assert site.refused() == ["certificate_revoked", "certificate_revoked"]


async def test_without_the_database_an_administrator_sees_health_and_nothing_else() -> None:
    site = Site(store=FakeStore(unavailable=True))
    status, body, headers = await site.ask(ANA)
    assert (status, body["error"]) == (503, "store_unavailable")
    assert int(headers["Retry-After"]) > 0
    status, body, _ = await site.ask(ANA, "/admin/health")
    assert (status, body["status"]) == (503, "unhealthy")
    assert await site.status(ANA, "/admin/healthy") == 503
    assert await site.status(DEVICE, "/admin/health") == 401
    assert await site.status(None, "/admin/health") == 401


async def test_without_the_database_a_revoked_administrator_sees_no_health_page_either() -> None:
    site = Site(store=FakeStore(unavailable=True), source=Source(RevocationStatus.REVOKED))
    assert await site.status(ANA, "/admin/health") == 401


async def test_an_address_with_too_many_refusals_gets_429_and_good_certificates_from_it_go_on() -> None:
    site = Site(limit=3)
    assert [await site.status(DEVICE) for _ in range(3)] == [401, 401, 401]
    status, body, headers = await site.ask(DEVICE)
    assert (status, body["error"]) == (429, "too_many_requests")
    assert int(headers["Retry-After"]) > 0
    assert await site.status(None) == 429
    assert await site.status(EVE) == 429
    assert await site.status(ANA) == 200
    assert await site.status(ANA, method="POST") == 200
    assert await site.status(None, "/admin/health/ready") == 200
    assert await site.status(DEVICE, client="192.0.2.8") == 401
    assert site.refused() == [*["enrolment_certificate"] * 3, "too_many_requests", "enrolment_certificate"]


async def test_an_ipv4_client_of_an_ipv6_socket_is_the_same_client() -> None:
    site = Site(limit=1)
    assert await site.status(None, client="::ffff:192.0.2.7") == 401
    assert await site.status(None, client="192.0.2.7") == 429


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/admin/health/live", 200),
        ("HEAD", "/admin/health/live", 200),
        ("GET", "/admin/health/%6cive", 200),
        ("GET", "/admin/health/live?verbose=1", 200),
        ("GET", "/admin/health/live/", 401),
        ("GET", "/admin/health//live", 401),
        ("GET", "/admin/health/live%00", 401),
        ("GET", "/admin/health/live/../../things/all", 401),
        ("GET", "/admin/health/LIVE", 401),
        ("GET", "/admin/health/live%2f..%2f..%2fthings%2fall", 401),
        ("POST", "/admin/health/live", 405),
        ("OPTIONS", "/admin/health/live", 405),
        ("OPTIONS", "/admin/things/all", 401),
        ("TRACE", "/admin/things/all", 401),
    ],
)
async def test_only_the_two_open_pages_are_open(site: Site, method: str, path: str, status: int) -> None:
    seen, body, headers = await site.ask(None, path, method=method)
    assert seen == status
    assert headers.get("Location") is None
    if method != "HEAD":
        assert isinstance(body, dict)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/admin/things", 404, "not_found"),
        ("GET", "/admin/things/all/", 404, "not_found"),
        ("GET", "/admin//things/all", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/admin/<script>", 404, "not_found"),
        ("DELETE", "/admin/things/all", 405, "method_not_allowed"),
        ("OPTIONS", "/admin/things/all", 405, "method_not_allowed"),
        ("GET", "/admin/things/crash", 500, "internal_error"),
    ],
)
async def test_an_operator_s_mistakes_are_json(site: Site, method: str, path: str, status: int, error: str) -> None:
    seen, body, headers = await site.ask(ANA, path, method=method)
    assert (seen, body["error"]) == (status, error)
    assert set(body) == {"error", "message"}
    assert "secret" not in body["message"]
    assert "script" not in body["message"]
    assert ("Allow" in headers) is (status == 405)
    assert site.events == []


async def test_the_path_of_an_event_is_short_and_printable(site: Site) -> None:
    await site.status(None, "/admin/%0a%1b[31m" + "x" * 1000)
    (event,) = site.events
    assert isinstance(event, AdminRefused)
    assert event.path.startswith("/admin/??[31mxxx")
    assert len(event.path) <= 201
