"""The group of commands ``kipuka plugins``."""

from __future__ import annotations

import click

from kipuka_core.cli.plugins.check import check_plugin
from kipuka_core.cli.plugins.docs import document_plugin
from kipuka_core.cli.plugins.listed import list_plugins


@click.group()
def plugins() -> None:
    """What is installed and enabled."""


for _command in (list_plugins, check_plugin, document_plugin):
    plugins.add_command(_command)
