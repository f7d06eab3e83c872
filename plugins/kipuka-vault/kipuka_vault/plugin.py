"""The hooks of kipuka-vault."""

from __future__ import annotations

from collections.abc import Sequence

from kipuka_core import CaBackend, Provider, hookimpl
from kipuka_vault.provider import PROVIDER

kipuka_api_version = 1


@hookimpl
def kipuka_ca_backends() -> Sequence[Provider[CaBackend]]:
    """Certificates by Vault or OpenBao."""
    return [PROVIDER]
