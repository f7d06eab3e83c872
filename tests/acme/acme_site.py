"""A deployment whose default CA is pebble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kipuka_core.testing.server import Deployment, make_deployment
from tests.acme.pebble import Pebble


def make_site(directory: Path, pebble: Pebble, *, workers: int = 1, **table: Any) -> Deployment:
    """Devices are known by one-time passwords, and by the certificates that pebble gives them."""
    deployment = make_deployment(directory)
    anchors = deployment.root_pem.read_bytes() + pebble.ca_pem("roots")
    (directory / "anchors.pem").write_bytes(anchors)
    lines = [f"{key} = {json.dumps(value)}" for key, value in pebble.table(**table).items()]
    deployment.configure(
        '[plugins]\nenable = ["acme"]\n'
        '[[ca]]\nbackend = "acme"\n' + "\n".join(lines) + "\n"
        '[enrollment]\naccept_ca_profile = true\next_key_usage = ["serverAuth", "clientAuth"]\n',
        workers=workers,
        client_auth='trust_anchors = "anchors.pem"\n',
    )
    return deployment
