"""``kipuka plugins list``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kipuka_core.cli.common import config_option, print_table, read_config
from kipuka_core.cli.plugins.configured import places_of
from kipuka_core.config import Config
from kipuka_core.errors import KipukaError
from kipuka_core.hooks.listing import Listed, survey

_HEADER = ("NAME", "KIND", "DISTRIBUTION", "VERSION", "API", "ENABLED", "SETTINGS", "USED AS")


@click.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
def list_plugins(config_path: Path | None, as_json: bool) -> None:
    """List every provider of the enabled plugins, and the plugins that are installed but not enabled.

    API is the version of the hooks that the plugin says it was written for, SETTINGS the table of kipuka.toml that sets
    it up, USED AS where the configuration uses it. An enabled plugin that cannot be used is listed with its problem.
    """
    config = configuration_if_any(config_path)
    rows = [(each, places_of(config, each.kind, each.name)) for each in survey(config.plugins.enable if config else ())]
    if as_json:
        click.echo(json.dumps([_as_json(each, places) for each, places in rows], indent=2, ensure_ascii=False))
        return
    print_table(_HEADER, [_row(each, places) for each, places in rows])
    for each, _ in rows:
        if each.problem is not None:
            click.echo(f"problem: {each.plugin}: {each.problem}")


def configuration_if_any(path: Path | None, *, quiet: bool = False) -> Config | None:
    """The configuration; None where none can be read and none was named, said on standard error unless ``quiet``.

    Raises ConfigurationError for one that was named.
    """
    try:
        return read_config(path)
    except KipukaError as error:
        if path is not None:
            raise
        if not quiet:
            click.echo(f"(no configuration: {error})", err=True)
        return None


def _row(each: Listed, places: list[str]) -> tuple[str, ...]:
    return (
        each.name,
        each.kind or "(not loaded)",
        each.plugin.distribution,
        each.plugin.version,
        "" if each.api_version is None else str(each.api_version),
        "yes" if each.plugin.enabled else "no",
        each.table or "",
        ", ".join(places),
    )


def _as_json(each: Listed, places: list[str]) -> dict[str, object]:
    return {
        "name": each.name,
        "kind": each.kind,
        "distribution": each.plugin.distribution,
        "version": each.plugin.version,
        "api_version": each.api_version,
        "enabled": each.plugin.enabled,
        "status": each.status(is_used=bool(places)),
        "table": each.table,
        "settings": list(each.settings),
        "used_as": places,
        "problem": each.problem,
    }
