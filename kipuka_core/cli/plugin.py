"""``kipuka plugin``: for authors of plugins."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from kipuka_core.cli.plugin_new.kinds import KINDS


@click.group()
def plugin() -> None:
    """For authors of plugins."""


@plugin.command()
@click.argument("name")
@click.option(
    "--kind",
    "word",
    required=True,
    type=click.Choice(tuple(KINDS)),
    help=f"What it is: {'; '.join(f'{kind.word}, {kind.called}' for kind in KINDS.values())}.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where it is made (default: kipuka-NAME, here). It must not be there yet, or be empty.",
)
def new(name: str, word: str, directory: Path | None) -> None:
    """Make a complete plugin called NAME, with tests: it installs and passes them at once.

    NAME, such as "erp-serials", is the word for kipuka.toml; the distribution is kipuka-NAME. Nothing is overwritten.
    """
    from kipuka_core.cli import command_names  # noqa: PLC0415  # it imports this module
    from kipuka_core.cli.plugin_new.names import read_name  # noqa: PLC0415  # loads the configuration and all plugins
    from kipuka_core.cli.plugin_new.render import render  # noqa: PLC0415
    from kipuka_core.cli.plugin_new.write import write_directory  # noqa: PLC0415

    kind = KINDS[word]
    try:
        plugin_name = read_name(name, kind, command_names())
    except ValueError as problem:
        raise click.BadParameter(f'"{name}": {problem}', param_hint="NAME") from None
    where = directory or Path(plugin_name.distribution)
    write_directory(where, render(plugin_name, kind))
    click.echo(f"made {where}: {kind.called}, {plugin_name.name!r} in kipuka.toml. Next:\n")
    click.echo(f"  cd {shlex.quote(str(where))}")
    click.echo("  pip install -e '.[test]'")
    click.echo("  pytest\n")
    click.echo(
        f"Then change what is marked CHANGE in {plugin_name.package}/__init__.py; README.md says how to enable it."
    )
