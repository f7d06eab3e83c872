"""A deployment whose default CA is CFSSL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kipuka_core.testing.server import Deployment, make_deployment


def make_site(directory: Path, settings: Mapping[str, Any], *, workers: int = 1, more: str = "") -> Deployment:
    """Its certificates are CFSSL's, and its TLS certificate is by the embedded CA."""
    deployment = make_deployment(directory)
    configure(deployment, settings, workers=workers, more=more)
    return deployment


def configure(deployment: Deployment, settings: Mapping[str, Any], *, workers: int = 1, more: str = "") -> None:
    # text, whole numbers, booleans and lists of them are written alike in JSON and TOML
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    deployment.configure(
        "\n".join(
            [
                '[plugins]\nenable = ["cfssl"]',
                "[enrollment]\naccept_ca_profile = true",
                '[[ca]]\nid = "devices"\nbackend = "cfssl"',
                *lines,
                more,
            ]
        ),
        workers=workers,
    )
