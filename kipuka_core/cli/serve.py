"""``kipuka serve``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kipuka_core.cli.common import config_option, read_config


@click.command()
@config_option
@click.option("--dev", is_flag=True, help="Make a CA, a server certificate, a database and a one-time password, once.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default="kipuka-dev",
    show_default=True,
    help="Where --dev keeps all of it.",
)
@click.option("--listen", metavar="HOST:PORT", help="EST address of a new --dev server (default: 127.0.0.1:8443).")
@click.option(
    "--admin-listen", metavar="HOST:PORT", help="Admin address of a new --dev server (default: 127.0.0.1:9443)."
)
def serve(config_path: Path | None, dev: bool, directory: Path, listen: str | None, admin_listen: str | None) -> None:
    """Serve EST and the admin listener until SIGTERM; SIGHUP reads certificates and trust anchors again."""
    from kipuka_core.serve import serve as serve_until_stopped  # noqa: PLC0415  # the whole server: not for --help

    if not dev:
        if listen or admin_listen:
            raise click.UsageError("the addresses are in the configuration; --listen and --admin-listen are for --dev")
        sys.exit(serve_until_stopped(read_config(config_path)))
    if config_path is not None:
        raise click.UsageError("--dev makes its own configuration; give either --dev or --config")
    from kipuka_core.cli.dev import instructions, prepare_development  # noqa: PLC0415

    config, token = prepare_development(directory, listen=listen, admin_listen=admin_listen)
    sys.exit(
        serve_until_stopped(
            config,
            announce=lambda addresses: click.echo(instructions(directory, addresses.est[1], token)),
            is_development=True,
        )
    )
