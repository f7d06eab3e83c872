"""``kipuka plugins docs``."""

from __future__ import annotations

from pathlib import Path

import click

from kipuka_core.cli.common import config_option
from kipuka_core.cli.plugins.contained import told_by_process
from kipuka_core.cli.plugins.installed import plugins_named
from kipuka_core.cli.plugins.listed import configuration_if_any
from kipuka_core.errors import KipukaError
from kipuka_core.hooks.manager import KINDS

_TIMEOUT_SECONDS = 60


@click.command("docs")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Of several things of that name, the provider of this kind.")
@config_option
def document_plugin(name: str, kind: str | None, config_path: Path | None) -> None:
    """Describe the settings of a plugin, enabled or not, in Markdown: every key, and an example.

    NAME is a plugin, a distribution, or a provider of the built-in plugins or of those that the configuration enables.
    """
    config = configuration_if_any(config_path, quiet=True)
    request = {
        "do": "docs",
        "config": str(config.path) if config else None,
        "name": name,
        "kind": kind,
        "plugins": [each.name for each in plugins_named(name)],
    }
    told = told_by_process(request, timeout_seconds=_TIMEOUT_SECONDS)
    if errors := told.all("error"):
        raise KipukaError(errors[0])
    if not told.all("text"):
        raise KipukaError(f"{name!r} cannot be described: it {told.end} while {told.step}")
    click.echo("".join(told.all("text")), nl=False)
