"""``kipuka plugins``: what is installed, what is enabled."""

from __future__ import annotations

from pathlib import Path

import click

from kipuka_core.cli.common import config_option, print_table, read_config
from kipuka_core.errors import KipukaError
from kipuka_core.hooks.manager import load_plugins


@click.group()
def plugins() -> None:
    """What is installed and enabled."""


@plugins.command("list")
@config_option
def list_plugins(config_path: Path | None) -> None:
    """List every provider of the enabled plugins, and the plugins that are installed but not enabled."""
    try:
        enable = read_config(config_path).plugins.enable
    except KipukaError as error:
        if config_path is not None:
            raise
        click.echo(f"(no configuration: {error})", err=True)
        enable = ()
    loaded = load_plugins(enable)
    rows = [
        (name, kind, entry.plugin.distribution, entry.plugin.version, "yes")
        for kind, entries in loaded.providers.items()
        for name, entry in entries.items()
    ]
    rows += [
        (info.name, "(not loaded)", info.distribution, info.version, "no") for info in loaded.infos if not info.enabled
    ]
    print_table(("NAME", "KIND", "DISTRIBUTION", "VERSION", "ENABLED"), rows)
