"""``kipuka check``: the whole configuration, without listening and without touching the database."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from kipuka_core.assemble import Assembly, assemble
from kipuka_core.cli.common import config_option, now, read_config, run
from kipuka_core.config import Config
from kipuka_core.edges.http.admin_bearer import read_bearer_tokens
from kipuka_core.edges.http.admin_credentials import idle_anchors
from kipuka_core.edges.store import default_sqlite_url
from kipuka_core.edges.tls.context import build_context
from kipuka_core.listeners import admin_material, est_material
from kipuka_core.state_directory import check_state_dir


@click.command()
@config_option
def check(config_path: Path | None) -> None:
    """Check the configuration, the keys, the certificates and the plugins; exit code 1 when something is wrong.

    Nothing is listened on, and the database is not touched.
    """
    config = read_config(config_path)
    warnings = run(warnings_of(config))
    for warning in warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"{config.path}: ok, {len(warnings)} warning{'' if len(warnings) == 1 else 's'}")


@asynccontextmanager
async def dry_assembly(config: Config) -> AsyncIterator[Assembly]:
    """Everything open as in the server, on an empty database that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="kipuka-") as directory:
        async with assemble(config, database_url=default_sqlite_url(Path(directory))) as assembly:
            yield assembly


async def warnings_of(config: Config) -> list[str]:
    """Open everything, make the contexts of both listeners, and collect what the operator should change.

    Raises ConfigurationError, one line, for the first thing that would stop the start.
    """
    check_state_dir(config)
    async with dry_assembly(config) as assembly:
        est, admin = await est_material(assembly), await admin_material(assembly)
        for material in (est, admin):
            material.chain.inspect(now())  # not in time is an error here, where warnings only tell of it
            build_context(material.tls)
        read_bearer_tokens(
            config.admin_tokens,
            os.environ,
            strict_permissions=config.server.strict_permissions,
            warn=assembly.warnings.append,
        )
        idle = idle_anchors(admin.trust.listener, assembly.standing.own_issuers())
        # The admin listener's material knows of both certificates, as the health page does.
        return list(dict.fromkeys((*assembly.warnings, *idle, *admin.warnings(now()))))
