"""``kipuka check``: the whole configuration, without listening and without touching the database."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from kipuka_core.assemble import Assembly, assemble
from kipuka_core.cli.common import config_option, now, read_config, run
from kipuka_core.config import Config
from kipuka_core.edges.store import default_sqlite_url
from kipuka_core.edges.tls.context import build_context
from kipuka_core.listeners import admin_tls, est_tls, inspect_certificates


@click.command()
@config_option
def check(config_path: Path | None) -> None:
    """Check the configuration, the keys, the certificates and the plugins; exit code 1 when something is wrong.

    Nothing is listened on, and the database is not touched.
    """
    config = read_config(config_path)
    warnings = run(_warnings(config))
    for warning in dict.fromkeys(warnings):
        click.echo(f"warning: {warning}")
    click.echo(f"{config.path}: ok, {len(warnings)} warning{'' if len(warnings) == 1 else 's'}")


@asynccontextmanager
async def dry_assembly(config: Config) -> AsyncIterator[Assembly]:
    """Everything open as in the server, on an empty database that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="kipuka-") as directory:
        async with assemble(config, database_url=default_sqlite_url(Path(directory))) as assembly:
            yield assembly


async def _warnings(config: Config) -> list[str]:
    async with dry_assembly(config) as assembly:
        for tls in (await est_tls(assembly), await admin_tls(assembly, now())):
            build_context(tls)
            assembly.warnings.extend(inspect_certificates(tls, now()))
        return list(dict.fromkeys(assembly.warnings))
