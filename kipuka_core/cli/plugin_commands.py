"""Commands that plugins bring (hook ``kipuka_cli_commands``)."""

from __future__ import annotations

import os
from collections.abc import Container

import click

from kipuka_core.errors import ConfigurationError, KipukaError


def plugin_commands(taken: Container[str]) -> dict[str, click.Command]:
    """The commands of the enabled plugins by name; none without a configuration that loads.

    Raises ConfigurationError for a name that is taken.
    """
    from kipuka_core.config import load  # noqa: PLC0415  # only when a command is not a built-in one
    from kipuka_core.hooks.manager import load_plugins  # noqa: PLC0415

    try:
        commands = load_plugins(load(None, os.environ).plugins.enable).commands
    except KipukaError:
        return {}
    found: dict[str, click.Command] = {}
    for command in commands:
        name = command.name or ""
        if name in taken or name in found:
            raise ConfigurationError("plugins.enable", f"a plugin brings the command {name!r}, which exists already")
        found[name] = command
    return found
