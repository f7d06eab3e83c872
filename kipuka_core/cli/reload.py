"""``kipuka reload``."""

from __future__ import annotations

from pathlib import Path

import click

from kipuka_core.cli.common import config_option, read_config
from kipuka_core.edges.serving.control import ControlUnavailable, command_server, listening_since
from kipuka_core.errors import KipukaError

_PATIENCE_SECONDS = 180.0


@click.command()
@config_option
def reload(config_path: Path | None) -> None:
    """Have the running server read certificates, keys, trust anchors and CRLs again; the same as SIGHUP.

    Either every process serves what the files hold now, which is printed, or none does: then each error is printed, the
    old files stay in use, and the exit code is 1. No connection is closed. kipuka.toml itself is read at start only.
    """
    config = read_config(config_path)
    directory = config.server.state_dir
    try:
        since = listening_since(directory)
        outcome = command_server(directory, "reload", timeout_seconds=_PATIENCE_SECONDS)
    except ControlUnavailable as error:
        raise KipukaError(str(error)) from error
    if not outcome.ok:
        raise KipukaError("\n".join(f"not reloaded: {line}" for line in outcome.lines))
    for line in outcome.lines:
        click.echo(f"reloaded, {line}")
    if since is not None and config.path.stat().st_mtime > since:
        click.echo(f"note: {config.path} has changed since the server started; a restart reads it")
