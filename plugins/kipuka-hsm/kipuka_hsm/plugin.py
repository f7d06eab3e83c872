"""The hooks of kipuka-hsm."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kipuka_core import KeyStore, Provider, hookimpl
from kipuka_hsm import store

kipuka_api_version = 1


@hookimpl
def kipuka_key_stores() -> Sequence[Provider[KeyStore]]:
    """Keys in PKCS#11 tokens."""
    return [store.PROVIDER]


@hookimpl
def kipuka_cli_commands() -> Sequence[click.Command]:
    """``kipuka hsm``."""
    from kipuka_hsm.commands import hsm  # noqa: PLC0415  # a server needs no commands

    return [hsm]
