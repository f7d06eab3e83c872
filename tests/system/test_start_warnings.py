"""What ``kipuka serve`` warns of when it serves: a server certificate that EST clients may not accept, and root."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.testing.pki import make_root
from kipuka_core.testing.server import make_deployment, running_server
from tests.interop.development import development_server
from tests.startup.starting import write_server

AS_ROOT = "the server runs as root"


def test_warnings_of_the_certificate_and_of_root_are_logged_once(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    leaf = make_root().leaf("est", ("dns:est.example.com",), eku=(ExtendedKeyUsageOID.SERVER_AUTH,))
    write_server(deployment, leaf)

    with running_server(deployment) as server:
        warnings = [line["warning"] for line in server.log() if line.get("event") == "configuration"]

    (usage,) = (line for line in warnings if "id-kp-cmcRA" in line)
    assert usage.endswith("make a right one with `kipuka tls csr --host est.example.com`")
    assert len([line for line in warnings if AS_ROOT in line and "examples/systemd/kipuka.service" in line]) == (
        os.geteuid() == 0
    )


def test_development_minds_no_root(tmp_path: Path) -> None:
    with development_server(tmp_path):
        pass
    lines = [json.loads(line) for line in (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()]
    assert any(line["event"] == "listening" for line in lines)
    assert not any(AS_ROOT in line.get("warning", "") for line in lines)
