"""The hooks of kipuka-cfssl."""

from __future__ import annotations

from collections.abc import Sequence

from kipuka_cfssl.provider import PROVIDER
from kipuka_core import CaBackend, Provider, hookimpl

kipuka_api_version = 1


@hookimpl
def kipuka_ca_backends() -> Sequence[Provider[CaBackend]]:
    """Certificates by CFSSL."""
    return [PROVIDER]
