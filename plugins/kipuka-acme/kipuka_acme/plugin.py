"""The hooks of kipuka-acme."""

from __future__ import annotations

from collections.abc import Sequence

from kipuka_acme import backend
from kipuka_core import CaBackend, Provider, hookimpl

kipuka_api_version = 1


@hookimpl
def kipuka_ca_backends() -> Sequence[Provider[CaBackend]]:
    """CAs that speak ACME."""
    return [backend.PROVIDER]
