"""``kipuka tls csr`` and ``kipuka tls self-signed``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from kipuka_core.cli.hosts import hosts_option
from kipuka_core.cli.keys import KEY_TYPES, OwnKey, certificate_pem, key_pem, key_type_option, new_key
from kipuka_core.cli.new_files import NewFile, make_private_directory, refuse_existing, write_all_new
from kipuka_core.cli.server_profile import self_signed_certificate, server_csr, server_subject
from kipuka_core.edges.tls.files import load_private_key
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.key_type import KeyType

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_LONGEST_DEVELOPMENT_DAYS = 398


def _subject_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> x509.Name | None:
    if value is None:
        return None
    try:
        if "=" in value:
            return x509.Name.from_rfc4514_string(value)
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)])
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither a CN nor a name like CN=est.example.com,O=Example") from error


def _shared_options(command: CommandT) -> CommandT:
    """What both commands are asked for."""
    options = (
        click.option(
            "--host",
            "hosts",
            multiple=True,
            required=True,
            metavar="NAME",
            callback=hosts_option,
            help="A DNS name or IP address by which clients reach the server; repeat for several.",
        ),
        click.option(
            "--key",
            "key_file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            default="server.key",
            show_default=True,
            help="Where the key goes; mode 0600.",
        ),
        click.option(
            "--key-type",
            callback=key_type_option,
            metavar="TYPE",
            help=f"{', '.join(KEY_TYPES)} (default: {KeyType.ECDSA256}).",
        ),
        click.option(
            "--subject",
            callback=_subject_option,
            metavar="CN",
            help="CN of the certificate, or a whole name: CN=est.example.com,O=Example (default: the first --host).",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_shared_options
@click.option("--existing-key", is_flag=True, help="Use the key that is in --key instead of making one.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    default="server.csr",
    show_default=True,
    help="Where the CSR goes.",
)
def csr(
    *,
    hosts: tuple[str, ...],
    key_file: Path,
    key_type: KeyType | None,
    subject: x509.Name | None,
    existing_key: bool,
    out: Path,
) -> None:
    """Make a key and a CSR for a server certificate, to be signed by a CA of yours.

    It asks for serverAuth and id-kp-cmcRA, which EST clients look for (RFC 7030 3.6.1), a key usage, and every --host
    as SubjectAltName. Nothing that exists is overwritten.
    """
    if existing_key and key_type is not None:
        raise click.UsageError("--existing-key has its own type; leave out --key-type")
    _refuse_clashes(key_file, out, keeps_key=existing_key)
    key = _existing_key(key_file) if existing_key else new_key(key_type or KeyType.ECDSA256)
    request = server_csr(hosts, key, server_subject(hosts) if subject is None else subject)
    new = NewFile(out, request.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(new, None if existing_key else NewFile(key_file, key_pem(key), 0o600))
    click.echo(f"made {out}" if existing_key else f"made {key_file} and {out}")
    click.echo("next: have your CA sign it with the extensions that it asks for; then look: kipuka tls show")


@click.command("self-signed")
@_shared_options
@click.option(
    "--days",
    type=click.IntRange(1, _LONGEST_DEVELOPMENT_DAYS),
    default=30,
    show_default=True,
    help="How long it is valid.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    default="server.pem",
    show_default=True,
    help="Where the certificate goes.",
)
def self_signed(
    *, hosts: tuple[str, ...], key_file: Path, key_type: KeyType | None, subject: x509.Name | None, days: int, out: Path
) -> None:
    """Make a key and a self-signed server certificate. For development: nobody vouches for it.

    It has the extensions that `kipuka tls csr` asks for. Nothing that exists is overwritten.
    """
    _refuse_clashes(key_file, out, keeps_key=False)
    key = new_key(key_type or KeyType.ECDSA256)
    certificate = self_signed_certificate(hosts, key, server_subject(hosts) if subject is None else subject, days=days)
    _write(NewFile(out, certificate_pem(certificate), 0o644), NewFile(key_file, key_pem(key), 0o600))
    click.echo(f"made {key_file} and {out}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
    click.echo("this certificate is for development: clients have to trust it itself, and nobody can revoke it")


def _refuse_clashes(key_file: Path, out: Path, *, keeps_key: bool) -> None:
    if key_file.absolute() == out.absolute():
        raise click.UsageError("--key and --out name the same file")
    refuse_existing(out)
    if not keeps_key:
        try:
            refuse_existing(key_file)
        except ConfigurationError as error:
            raise ConfigurationError(
                error.where, "exists already; a key is never overwritten (kipuka tls csr --existing-key uses it)"
            ) from None


def _existing_key(file: Path) -> OwnKey:
    try:
        key = load_private_key(str(file), None)
    except ConfigurationError as error:
        if "encrypted" not in error.problem:
            raise
        raise ConfigurationError(
            error.where, "is encrypted, and kipuka tls csr asks for no password; make the CSR with openssl req"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigurationError(str(file), "is neither an RSA nor an EC key, which is what every TLS client accepts")
    return key


def _write(new: NewFile, key: NewFile | None) -> None:
    """The key only together with what was made of it."""
    files = [new] if key is None else [key, new]
    for file in files:
        make_private_directory(file.path.parent)
    write_all_new(files)
