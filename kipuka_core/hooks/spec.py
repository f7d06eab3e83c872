"""Every hook. A plugin is a module (or any object) with functions of these names, marked with ``@hookimpl``.

Hooks are called once, at start-up, without arguments, and return providers; nothing of them runs during a request.

Besides its hooks, a plugin's module may say `kipuka_api_version = 1`, which API it was written for, and
`kipuka_settings = …`, the class of settings that `[plugin.NAME]` has for its commands and admin routes.

The reference page is generated from this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.ports import Authenticator, EventSink, KeyStore, Policy, TlsMaterial
from kipuka_core.hooks.provider import Provider

if TYPE_CHECKING:  # importing Quart takes longer than all the rest of the face, and a plugin may not need it
    import click
    from quart import Blueprint

PROJECT = "kipuka"
API_VERSION = 1
"""What this core speaks. A plugin says ``kipuka_api_version = N``; what may change when is in docs/api-version.md."""
OLDEST_API_VERSION = 1
"""The oldest that it speaks besides."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def kipuka_authenticators() -> Sequence[Provider[Authenticator]]:  # type: ignore[empty-body]  # a hookspec has no body
    """Who may ask: answers ``[auth] order``. The first identity wins."""


@hookspec
def kipuka_policies() -> Sequence[Provider[Policy]]:  # type: ignore[empty-body]
    """What may be asked: answers ``[policy] order``. All are asked; Deny > Wait > Allow."""


@hookspec
def kipuka_ca_backends() -> Sequence[Provider[CaBackend]]:  # type: ignore[empty-body]
    """Who signs: answers ``[[ca]] backend``."""


@hookspec
def kipuka_key_stores() -> Sequence[Provider[KeyStore]]:  # type: ignore[empty-body]
    """Where keys live: answers the scheme of a key URI. The provider's name is ``[key_store.NAME]``."""


@hookspec
def kipuka_tls_material() -> Sequence[Provider[TlsMaterial]]:  # type: ignore[empty-body]
    """Where a listener's certificate and key come from: answers ``[tls] material``."""


@hookspec
def kipuka_event_sinks() -> Sequence[Provider[EventSink]]:  # type: ignore[empty-body]
    """Where audit events go besides the store: answers ``[[audit.sink]] use``."""


@hookspec
def kipuka_cli_commands() -> Sequence[click.Command]:  # type: ignore[empty-body]
    """Further commands of ``kipuka``. A name already taken is a configuration error."""


@hookspec
def kipuka_admin_routes() -> Sequence[Blueprint]:  # type: ignore[empty-body]
    """Further routes under ``/admin``. A path already taken is a configuration error."""


HOOKS: dict[str, Any] = {name: value for name, value in globals().items() if name.startswith("kipuka_")}
