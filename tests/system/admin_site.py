"""A server whose administrators are a person with a certificate, one who may look, and two tokens; and its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kipuka_core.testing.client import Answer, basic
from kipuka_core.testing.pki import Leaf, make_csr, make_key
from tests.system.admin_kit import ADMIN_CA, admin
from tests.system.system_kit import System, deploy, serving

OPERATOR, VIEWER = "operator-" * 5, "viewer---" * 5
TOKENS = {"KIPUKA_TEST_OPERATOR": OPERATOR, "KIPUKA_TEST_VIEWER": VIEWER}
TOML = """
[admin]
bearer_token_env = "KIPUKA_TEST_OPERATOR"
operators = ["CN=Ana,O=Example"]
viewers = ["CN=Ben,O=Example"]
[[admin.token]]
name = "eye"
role = "viewer"
env = "KIPUKA_TEST_VIEWER"
[admin.client_auth]
mode = "optional"
trust_anchors = ["admin-ca.pem", "state/ca/issuing.pem"]
[[est.label]]
name = "factory"
[[est.label]]
name = "slow"
approval = true
[[est.label]]
name = "open"
subject_binding = "any"
[auth.otp]
max_failures = 2
"""


@dataclass
class AdminSite:
    """The running server, as administrators use it."""

    system: System

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = OPERATOR,
        leaf: Leaf | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; a ``body`` that is no bytes is sent as JSON."""
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None and not isinstance(body, bytes):
            sent["Content-Type"], body = "application/json", json.dumps(body).encode()
        return admin(self.system, leaf=leaf).request(method, path, body, sent | dict(headers or {}))

    def get(self, path: str, status: int = 200, **more: Any) -> Any:
        """The JSON of a page."""
        return json_body(self.ask("GET", path, **more), status)

    def post(self, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        """The JSON that a POST brings."""
        return json_body(self.ask("POST", path, body, **more), status)

    def otp(self, entity_id: str, **more: Any) -> dict[str, Any]:
        """A one-time password, by the API."""
        made: dict[str, Any] = self.post("otp/generate", {"entity_id": entity_id, **more}, 201)
        return made

    def enrolled(self, entity_id: str, *, label: str = "", san: tuple[str, ...] = ()) -> Leaf:
        """A device with a certificate."""
        key = make_key()
        answer = self.enrol(make_csr(key, entity_id, san), entity_id, self.otp(entity_id)["token"], label)
        return Leaf(answer.certificate(), key)

    def enrol(self, csr: bytes, user: str, password: str, label: str = "") -> Answer:
        """An enrolment, as a device does it."""
        return self.system.client().enrol(csr, user=user, password=password, label=label)

    def facts(self, **query: str) -> list[dict[str, Any]]:
        """Audit facts, newest first."""
        words = "&".join(f"{name}={value}" for name, value in query.items())
        found: list[dict[str, Any]] = self.get(f"audit?limit=1000&{words}")["events"]
        return found

    def lock_out(self, entity_id: str) -> None:
        """Two wrong passwords for an entity that has one."""
        self.otp(entity_id)
        for _ in range(2):
            answer = self.system.client().request(
                "POST", "simpleenroll", b"", {"Content-Type": "application/pkcs10", **guess(entity_id)}
            )
            assert answer.status in {401, 429}, answer.text


def guess(entity_id: str) -> dict[str, str]:
    """A wrong password."""
    return {"Authorization": basic(entity_id, "guess")}


def json_body(answer: Answer, status: int) -> Any:
    """The body of an answer of this status; None for one without."""
    assert answer.status == status, (answer.status, answer.text)
    if status == 204:
        assert answer.body == b""
        return None
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.body)
    if status >= 400:
        assert set(body) == {"error", "message"}
        assert re.fullmatch(r"[a-z0-9_]+", body["error"])
    return body


def hex_serial(leaf: Leaf) -> str:
    """The serial number as the API writes it."""
    return f"{leaf.certificate.serial_number:x}"


@contextmanager
def admin_site(directory: Path, toml: str = TOML, *, server: str = "") -> Iterator[AdminSite]:
    """Start it; ``server`` are lines of ``[server]``."""
    deployment = deploy(directory / "deployment", toml, server=server)
    (deployment.directory / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    with serving(deployment, environment=TOKENS) as system:
        yield AdminSite(system)
