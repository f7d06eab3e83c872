"""``kipuka init``: a CA, a server certificate and a commented configuration."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

import click

from kipuka_core.cli.bootstrap import (
    make_embedded_ca,
    make_private_directory,
    make_server_certificate,
    write_new,
)
from kipuka_core.config import default_toml
from kipuka_core.config.values import parse_address
from kipuka_core.model.key_type import KeyType, parse_key_type

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# The last label is not all digits: such a name would be a mistyped IPv4 address.
_HOST = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*(?!\d+$){_LABEL}")
_KEY_TYPES = ("ecdsa256", "ecdsa384", "ecdsa521", "rsa2048", "rsa3072", "rsa4096")


def _hosts(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _HOST.fullmatch(value) and not _is_address(value):
            raise click.BadParameter(f"{value!r} is neither a host name nor an IP address")
    return values


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _listen(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return str(parse_address(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _key_type(_ctx: click.Context, _param: click.Parameter, value: str) -> KeyType:
    try:
        key_type = parse_key_type(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if key_type not in _KEY_TYPES:
        raise click.BadParameter(f"the embedded CA can have one of {', '.join(_KEY_TYPES)}")
    return key_type


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("localhost", "127.0.0.1"),
    show_default=True,
    callback=_hosts,
    help="A name or address by which clients reach the server; repeat for several.",
)
@click.option("--organization", default="Kipuka", show_default=True, help="O= of the CA's name.")
@click.option(
    "--key-type",
    default="ecdsa256",
    show_default=True,
    callback=_key_type,
    help=f"Key type of the CA: {', '.join(_KEY_TYPES)}.",
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
