"""Commands that plugins bring (hook ``kipuka_cli_commands``)."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from pathlib import Path

import click

from kipuka_core.errors import ConfigurationError

_CONFIG_OPTIONS = ("-c", "--config")


def plugin_commands(taken: Container[str], config_path: Path | None = None) -> dict[str, click.Command]:
    """The commands of the plugins that the configuration enables, by name.

    Raises ConfigurationError for a configuration that does not load, and for a name that is taken.
    """
    from kipuka_core.config import load  # noqa: PLC0415  # only when a command is not a built-in one
    from kipuka_core.hooks.manager import load_plugins  # noqa: PLC0415

    found: dict[str, click.Command] = {}
    for command in load_plugins(load(config_path, os.environ).plugins.enable).commands:
        name = command.name or ""
        if name in taken or name in found:
            raise ConfigurationError("plugins.enable", f"a plugin brings the command {name!r}, which exists already")
        found[name] = command
    return found


def config_named_in(arguments: Sequence[str]) -> Path | None:
    """The file of ``-c FILE`` or ``--config FILE``: it says which commands there are, before click has read it."""
    for position, word in enumerate(arguments):
        option, equals, value = word.partition("=")
        if option in _CONFIG_OPTIONS and equals:
            return Path(value)
        if word in _CONFIG_OPTIONS and position + 1 < len(arguments):
            return Path(arguments[position + 1])
    return None
