"""``kipuka hsm``: tokens and keys, a test of a key, and what a ceremony needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core import ConfigurationError
from kipuka_core.commands import CommandContext, config_option, key_store_context, run_command
from kipuka_hsm import store
from kipuka_hsm.access import TokenPlace, opener_for
from kipuka_hsm.ca_certificates import CaProfile, make_csr, make_self_signed, make_subordinate, parse_subject
from kipuka_hsm.key_lookup import key_from
from kipuka_hsm.keys import SIGNING_MECHANISMS
from kipuka_hsm.listing import key_rows, matching_keys, print_rows, token_rows
from kipuka_hsm.messages import Failure
from kipuka_hsm.probe import probe, wanted_by
from kipuka_hsm.process import Process, ProcessGone, TokenFailed
from kipuka_hsm.session import SessionOpener
from kipuka_hsm.settings import HsmSettings
from kipuka_hsm.speed import signatures_per_second
from kipuka_hsm.uri import parse_uri, without_pin

ResultT = TypeVar("ResultT")
Context = CommandContext[HsmSettings]

_SESSIONS = (1, 2, 4, 8)
_out = click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it here, not to the terminal."
)
_subject = click.option(
    "--subject", required=True, metavar="NAME", help='An RFC 4514 name: "CN=Example Root,O=Example".'
)
_LENGTHS = click.IntRange(0, 100)
"""No chain is longer: more would be a mistake, or numbers that others cannot read."""
_path_length = click.option(
    "--path-length", type=_LENGTHS, metavar="N", help="How many CAs may follow below it (default: any number)."
)


@click.group()
def hsm() -> None:
    """Tokens (HSMs) and the keys on them.

    Module and PIN are those of [hsm] in kipuka.toml, or of the key's URI (RFC 7512).
    """


@hsm.command()
@config_option
def tokens(config_path: Path | None) -> None:
    """List the tokens of the module. No PIN is needed."""
    context = _context(config_path)
    library = _told(lambda: TokenPlace.of(parse_uri("pkcs11:"), context.settings, context.services).library)
    process = Process()
    try:
        found = _told(lambda: process.ask({"do": "tokens", "library": str(library)}, context.settings.timeout))
    finally:
        process.kill()
    print_rows(token_rows(found["tokens"]), f"{library} has no initialised token")


@hsm.command()
@config_option
@click.argument("uri", default="pkcs11:")
def keys(config_path: Path | None, uri: str) -> None:
    """List the private keys that URI names (default: all of the only token)."""
    context = _context(config_path)
    session = _told(_opener(context, uri))
    try:
        found = _told(session.keys)
    finally:
        session.close()
    matching = matching_keys(found, *_named(uri))
    nothing = "has no such private key" if found else "has no private key"
    print_rows(key_rows(session.token, matching), f"{session.token_name} {nothing}")


@hsm.command()
@config_option
@click.argument("uri")
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="For each measurement.")
def test(config_path: Path | None, uri: str, seconds: float) -> None:
    """Sign with the key at URI, verify that, and count signatures a second at 1, 2, 4 and 8 sessions."""
    context = _context(config_path)
    opener = _opener(context, uri)
    session = _told(opener)
    try:
        facts = _told(lambda: session.find(*_named(uri)))
        ref, key = key_from(facts, session.sign, session.mechanisms, without_pin(uri), context.services)
        if not _told(lambda: probe(key)):
            raise ConfigurationError(without_pin(uri), "makes signatures that its own public key does not verify")
    finally:
        session.close()
    click.echo(f"{session.token_name}: {without_pin(uri)}")
    click.echo(f"signing mechanisms: {', '.join(sorted(session.mechanisms & SIGNING_MECHANISMS))}")
    click.echo("a signature was made, and verifies")
    for sessions in _SESSIONS:
        try:
            rate = signatures_per_second(opener, ref, wanted_by(key), sessions, seconds)
        except TokenFailed as error:
            if error.kind is not Failure.BUSY:
                raise ConfigurationError(without_pin(uri), str(error)) from None
            click.echo(f"{sessions} sessions are more than the token has free now ({error})")
            return
        except ProcessGone as error:
            raise ConfigurationError(without_pin(uri), str(error)) from None
        click.echo(f"{sessions} session{'' if sessions == 1 else 's'}: {rate:.0f} signatures a second")


@hsm.command()
@config_option
@click.argument("uri")
@click.option("--key-type", default="ecdsa384", show_default=True, metavar="TYPE", help="Such as rsa4096 or ecdsa256.")
def generate(config_path: Path | None, uri: str, key_type: str) -> None:
    """Make a key pair at URI (object=NAME) that never leaves its token."""
    context = _context(config_path)

    async def work() -> None:
        async with store.PROVIDER.open(context.settings, context.services) as key_store:
            await key_store.generate(uri, key_type)

    run_command(work)
    click.echo(f"made {without_pin(uri)}")


@hsm.command()
@config_option
@click.argument("uri")
@_subject
@_path_length
@_out
def csr(config_path: Path | None, uri: str, subject: str, path_length: int | None, out: Path | None) -> None:
    """Print a CSR for a CA certificate, signed by the key at URI."""
    profile = CaProfile(parse_subject(subject), 0, path_length)
    _with_key(config_path, uri, out, lambda key: make_csr(key, profile))


@hsm.command("self-signed")
@config_option
@click.argument("uri")
@_subject
@click.option("--days", type=click.IntRange(1), default=7300, show_default=True, help="How long it is valid.")
@_path_length
@_out
def self_signed(  # noqa: PLR0917  # click passes them by name
    config_path: Path | None, uri: str, subject: str, days: int, path_length: int | None, out: Path | None
) -> None:
    """Print a root certificate for the key at URI."""
    profile = CaProfile(parse_subject(subject), days, path_length)
    _with_key(config_path, uri, out, lambda key: make_self_signed(key, profile, _now()))


@hsm.command("sign-ca")
@config_option
@click.argument("uri")
@click.option(
    "--issuer", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The root's certificate."
)
@click.option("--csr", "csr_file", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The CSR.")
@click.option("--days", type=click.IntRange(1), default=3650, show_default=True, help="Never beyond the issuer's end.")
@click.option("--path-length", type=_LENGTHS, default=0, show_default=True, help="How many CAs may follow below it.")
@_out
def sign_ca(  # noqa: PLR0917  # click passes them by name
    config_path: Path | None,
    uri: str,
    issuer: Path,
    csr_file: Path,
    days: int,
    path_length: int,
    out: Path | None,
) -> None:
    """Print a certificate for the CA whose CSR this is, signed by the key at URI. The subject is the CSR's."""
    issuer_certificate = _read(issuer, x509.load_pem_x509_certificate)
    request, subject = _read(csr_file, lambda pem: ((csr := x509.load_pem_x509_csr(pem)), csr.subject))
    profile = CaProfile(subject, days, path_length)
    _with_key(config_path, uri, out, lambda key: make_subordinate(key, issuer_certificate, request, profile, _now()))


def _context(config_path: Path | None) -> Context:
    return key_store_context(config_path, "pkcs11", HsmSettings)


def _opener(context: Context, uri: str) -> SessionOpener:
    parsed = parse_uri(uri)
    return opener_for(
        TokenPlace.of(parsed, context.settings, context.services), parsed, context.settings, context.services
    )


def _named(uri: str) -> tuple[str | None, bytes | None]:
    parsed = parse_uri(uri)
    return parsed.object_label, parsed.object_id


def _told(work: Callable[[], ResultT]) -> ResultT:
    """What a token says is an error of one line."""
    try:
        return work()
    except (TokenFailed, ProcessGone) as error:
        raise ConfigurationError("", str(error)) from None


def _with_key(config_path: Path | None, uri: str, out: Path | None, make: Callable[[Any], Any]) -> None:
    context = _context(config_path)

    async def work() -> bytes:
        async with store.PROVIDER.open(context.settings, context.services) as key_store:
            signer = await key_store.signer(uri)
            run = signer.run_blocking or context.services.run_blocking
            made = await run(make, signer.private_key)
            return bytes(made.public_bytes(Encoding.PEM))

    pem: bytes = run_command(work)
    if out is None:
        click.echo(pem.decode(), nl=False)
        return
    try:
        with out.open("xb") as file:
            file.write(pem)
    except FileExistsError:
        raise ConfigurationError(str(out), "is there already, and not overwritten") from None
    except OSError as error:
        raise ConfigurationError(str(out), f"cannot be written: {error.strerror}") from None


def _read(path: Path, load: Callable[[bytes], ResultT]) -> ResultT:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(str(path), "is not the PEM file that is wanted here") from None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
