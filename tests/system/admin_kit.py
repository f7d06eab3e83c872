"""The admin listener as a client sees it, and a deployment whose administrators have a CA of their own."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

from kipuka_core.testing.client import Answer, EstClient
from kipuka_core.testing.pki import Authority, Leaf, make_root, name
from tests.system.system_kit import System

ADMIN_ROOT: Authority = make_root("Admin Root CA")
ADMIN_CA = ADMIN_ROOT.subordinate("Admin CA")
ANA = ADMIN_CA.leaf(subject=name("Ana", O="Example"))
BEN = ADMIN_CA.leaf(subject=name("Ben", O="Example"))
EVE = ADMIN_CA.leaf("Eve")


def admin(
    system: System, *, root: Path | None = None, leaf: Leaf | None = None, tls: ssl.TLSVersion | None = None
) -> EstClient:
    """A client of the admin listener."""
    root_pem = root or system.deployment.root_pem
    directory = system.deployment.directory if leaf else None
    return EstClient(system.server.admin_port, root_pem, leaf=leaf, directory=directory, tls=tls, base_path="/admin")


def json_of(answer: Answer, status: int) -> Any:
    """The body of an answer of this status."""
    assert answer.status == status, (answer.status, answer.text)
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.body)


def refused_in_handshake(system: System, leaf: Leaf | None, tls: ssl.TLSVersion | None = None) -> bool:
    """Whether the admin listener ends the handshake of this client."""
    root = system.deployment.directory / "admin-root.pem"
    try:
        admin(system, root=root if root.exists() else None, leaf=leaf, tls=tls).request("GET", "health/live")
    except (ssl.SSLError, ConnectionError):
        return True
    return False
