"""``kipuka init``: a CA, a server certificate and a commented configuration."""

from __future__ import annotations

from pathlib import Path

import click

from kipuka_core.cli.bootstrap import make_embedded_ca, make_server_certificate
from kipuka_core.cli.hosts import hosts_option
from kipuka_core.cli.keys import KEY_TYPES, key_type_option
from kipuka_core.cli.new_files import make_private_directory, write_new
from kipuka_core.config import default_toml
from kipuka_core.config.values import parse_address
from kipuka_core.model.key_type import KeyType


def _listen(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return str(parse_address(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("localhost", "127.0.0.1"),
    show_default=True,
    callback=hosts_option,
    help="A name or address by which clients reach the server; repeat for several.",
)
@click.option("--organization", default="Kipuka", show_default=True, help="O= of the CA's name.")
@click.option(
    "--key-type",
    default="ecdsa256",
    show_default=True,
    callback=key_type_option,
    help=f"Key type of the CA: {', '.join(KEY_TYPES)}.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="0.0.0.0:8443",
    show_default=True,
    callback=_listen,
    help="Address of the EST listener.",
)
def init(directory: Path, hosts: tuple[str, ...], organization: str, key_type: KeyType, listen: str) -> None:
    """Make a root and an issuing CA, a server certificate and a commented kipuka.toml in DIRECTORY.

    Nothing that exists is overwritten. The root key is needed only to make another issuing CA: take
    state/ca/root.key off this machine.
    """
    prepare(directory, hosts=hosts, organization=organization, key_type=key_type, listen=listen)
    click.echo(f"made {directory / 'kipuka.toml'} and {directory / 'state' / 'ca'}")
    click.echo(f"next: kipuka check -c {directory / 'kipuka.toml'}")


def prepare(  # the choices of a first deployment
    directory: Path,
    *,
    hosts: tuple[str, ...],
    organization: str,
    key_type: KeyType,
    listen: str,
    admin_listen: str = "127.0.0.1:9443",
) -> None:
    """Make all of it; the configuration comes last, so that where it is, the rest is."""
    ca_directory = directory / "state" / "ca"
    make_private_directory(directory / "state")
    make_embedded_ca(ca_directory, key_type, organization=organization)
    make_server_certificate(ca_directory, directory / "tls" / "server.pem", directory / "tls" / "server.key", hosts)
    toml = default_toml(
        cert="tls/server.pem",
        key="tls/server.key",
        trust_anchors="state/ca/root.pem",
        state_dir="state",
        listen=listen,
        admin_listen=admin_listen,
    )
    write_new(directory / "kipuka.toml", toml.encode(), 0o644)
