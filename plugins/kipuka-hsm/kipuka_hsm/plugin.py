"""The hooks of kipuka-hsm."""

from __future__ import annotations

from collections.abc import Sequence

from kipuka_core import KeyStore, Provider, hookimpl
from kipuka_hsm import store

kipuka_api_version = 1


@hookimpl
def kipuka_key_stores() -> Sequence[Provider[KeyStore]]:
    """Keys in PKCS#11 tokens."""
    return [store.PROVIDER]
