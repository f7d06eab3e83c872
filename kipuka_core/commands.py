"""The face for plugins that bring commands (hook ``kipuka_cli_commands``): what the configuration says to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar, cast

import click
from pydantic import BaseModel

from kipuka_core.config import labels, load, validate_table
from kipuka_core.domain.ports import Records
from kipuka_core.edges.blocking import BlockingWork
from kipuka_core.errors import ConfigurationError, StoreUnavailable
from kipuka_core.hooks.manager import load_plugins
from kipuka_core.hooks.provider import Services
from kipuka_core.model.event import Event
from kipuka_core.plugin_tables import plugin_settings

SettingsT = TypeVar("SettingsT", bound=BaseModel)

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration (default: $KIPUKA_CONFIG, ./kipuka.toml, /etc/kipuka/kipuka.toml).",
)
"""An option of every command that reads the configuration."""


@dataclass(frozen=True, slots=True)
class CommandContext(Generic[SettingsT]):
    """The settings of a plugin, and services without a server: no store, no CA, events go nowhere."""

    settings: SettingsT
    services: Services


def key_store_context(config_path: Path | None, name: str, model: type[SettingsT]) -> CommandContext[SettingsT]:
    """What ``[key_store.NAME]`` says to the key store of this name. Warnings go to standard error.

    Raises ConfigurationError.
    """
    config = load(config_path, os.environ)
    table = next((each for each in config.key_stores if each.name == name), None)
    settings = validate_table(
        model, table.settings if table else {}, table.toml_path if table else name, base_dir=config.base_dir
    )
    services = Services(
        store=cast("Records", _NoStore()),
        clock=lambda: datetime.now(UTC),
        run_blocking=BlockingWork().run,
        open_signer=_no_signer,
        base_dir=config.base_dir,
        state_dir=config.server.state_dir,
        labels=labels(config),
        client_anchors=(),
        own_issuers=lambda: (),
        ca_chain=_no_ca,
        issue_server_certificate=_no_ca,
        dry_run=True,
        call_timeout_seconds=config.plugins.timeout,
        accept_unrecorded=False,
        strict_permissions=config.server.strict_permissions,
        emit=_unheard,
        warn=lambda warning: click.echo(f"warning: {warning}", err=True),
    )
    return CommandContext(settings, services)


def settings_of_plugin(config_path: Path | None, name: str, model: type[SettingsT]) -> SettingsT:
    """What ``[plugin.NAME]`` says to the enabled plugin of this name, whose module has ``kipuka_settings = model``.

    Raises ConfigurationError.
    """
    config = load(config_path, os.environ)
    settings = plugin_settings(config, load_plugins(config.plugins.enable)).get(name)
    if not isinstance(settings, model):
        raise ConfigurationError(
            f"plugin.{name}", f"the plugin's module does not say kipuka_settings = {model.__name__}"
        )
    return settings


def run_command(work: Callable[[], Any]) -> Any:
    """Run a command's coroutine function in an event loop of its own."""
    return asyncio.run(work())


class _NoStore:
    """A command without a server has no store."""

    def __getattr__(self, name: str) -> NoReturn:
        raise StoreUnavailable(f"a command has no store ({name})")


async def _no_ca(*_arguments: object, **_options: object) -> NoReturn:
    raise ConfigurationError("ca", "no CA is open in this command")


async def _no_signer(_key_uri: str) -> NoReturn:
    raise ConfigurationError("key", "cannot be opened here")


async def _unheard(_event: Event) -> None:
    """Nobody listens."""
