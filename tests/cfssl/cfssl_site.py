"""A deployment whose default CA is CFSSL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kipuka_core.testing.server import Deployment, make_deployment


def make_site(
    directory: Path, settings: Mapping[str, Any], *, client_auth: str = "", enrollment: str = ""
) -> Deployment:
    """Its certificates are CFSSL's, and its TLS certificate is by the embedded CA."""
    deployment = make_deployment(directory)
    # text, whole numbers, booleans and lists of them are written alike in JSON and TOML
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    deployment.configure(
        "\n".join(
            [
                '[plugins]\nenable = ["cfssl"]',
                f"[enrollment]\naccept_ca_profile = true\n{enrollment}",
                '[[ca]]\nid = "devices"\nbackend = "cfssl"',
                *lines,
            ]
        ),
        client_auth=client_auth,
    )
    return deployment
