"""``kipuka crl``: the CRLs of the server's own CAs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.cli.admin_access import AdminAccess, AdminClient, admin_command
from kipuka_core.cli.common import config_option, moment, now, print_table, read_config, run, with_store
from kipuka_core.cli.served_crls import ServedCrl, default_ca_id, served_crl, served_crls
from kipuka_core.config import Config
from kipuka_core.edges.status.desk import key_name
from kipuka_core.edges.store import SqlStore
from kipuka_core.errors import KipukaError
from kipuka_core.model.status import CrlFacts, RevocationState

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_key_option = click.option(
    "--ca-key",
    "ca_key",
    metavar="HEX",
    default="",
    help="Of this key, as `kipuka crl show` names it (default: the newest CRL).",
)


@click.group()
def crl() -> None:
    """CRLs of the server's own CAs: make, look at, write to a file."""


@crl.command("make")
@config_option
@click.argument("ca_id", metavar="[CA]", required=False)
@_json_option
def make_crl(config_path: Path | None, ca_id: str | None, as_json: bool) -> None:
    """Make and publish a new CRL of this CA (default: of every CA), whether one is due or not.

    The server does so by itself; this is for a server that does not run.
    """
    config = read_config(config_path)
    _check_id(config, ca_id)
    made = run(_make(config, ca_id))
    if not made:
        raise KipukaError("kipuka makes no CRLs for this CA: its backend does, or its certificate lacks cRLSign")
    _print([(facts, RevocationState(facts.changes, facts)) for facts in made], as_json)


@crl.command("show")
@admin_command
@click.argument("ca_id", metavar="[CA]", required=False)
def show_crls(access: AdminAccess, ca_id: str | None) -> None:
    """Show the newest CRL of this CA (default: of every CA) and whether it knows of every revocation."""
    if access.url is not None:
        served = access.run(lambda admin: served_crls(admin, ca_id))
        # A server makes a new one, when its newest does not know of everything, before it answers.
        _print([(each.facts, RevocationState(each.facts.changes, each.facts)) for each in served], access.as_json)
        return

    async def work(store: SqlStore) -> None:
        found = [facts for facts in await store.all_crls() if ca_id in {None, facts.ca_id}]
        _print([(facts, await store.revocation_state(facts.issuer_key_id)) for facts in found], access.as_json)

    _check_id(access.config(), ca_id)
    with_store(access.config_path, work)


@crl.command("export")
@admin_command
@click.argument("ca_id", metavar="[CA]", required=False)
@_key_option
@click.option("--pem", is_flag=True, help="PEM instead of DER.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write (default: standard output).",
)
def export_crl(access: AdminAccess, ca_id: str | None, ca_key: str, pem: bool, out: Path | None) -> None:
    """Write the newest CRL of this CA (default: of the default CA) to a file, as it is published."""
    if access.as_json:
        raise click.UsageError("a CRL is DER or PEM, not JSON: `kipuka crl show --json` tells about it")
    data = _stored(access, ca_id, ca_key) if access.url is None else _served(access, ca_id, ca_key)
    if pem:
        data = x509.load_der_x509_crl(data).public_bytes(Encoding.PEM)
    if out is None:
        click.echo(data, nl=False)
    else:
        out.write_bytes(data)


def _stored(access: AdminAccess, ca_id: str | None, key: str) -> bytes:
    config = access.config()
    _check_id(config, ca_id)
    wanted = ca_id or config.default_ca.id

    async def newest(store: SqlStore) -> bytes:
        found = [
            facts
            for facts in await store.all_crls()
            if facts.ca_id == wanted and key_name(facts.issuer_key_id).startswith(key.lower())
        ]
        facts = max(found, key=lambda facts: facts.this_update, default=None)
        published = await store.newest_crl(facts.issuer_key_id) if facts else None
        if published is None:
            raise KipukaError(f"there is no such CRL of {wanted}; `kipuka crl make {wanted}` makes one")
        return published.der

    return with_store(access.config_path, newest)


def _served(access: AdminAccess, ca_id: str | None, key: str) -> bytes:
    if key:
        raise click.UsageError("--ca-key is for this machine's store; a server gives the CRL of a CA's newest key")

    async def work(admin: AdminClient) -> ServedCrl:
        return await served_crl(admin, ca_id or await default_ca_id(admin))

    return access.run(work).der


async def _make(config: Config, ca_id: str | None) -> list[CrlFacts]:
    from kipuka_core.assemble import assemble  # noqa: PLC0415  # the whole server: not for the other commands

    async with assemble(config) as assembly:
        publishers = [
            publisher
            for each in assembly.cas
            if ca_id in {None, each} and assembly.status.has_crls(each)
            for publisher in assembly.status.publishers(each)
        ]
        return [(await publisher.make()).facts for publisher in publishers]


def _check_id(config: Config, ca_id: str | None) -> None:
    known = [ca.id for ca in config.cas]
    if ca_id is not None and ca_id not in known:
        raise KipukaError(f"there is no CA {ca_id!r} in {config.path} (known: {', '.join(known)})")


def _print(found: list[tuple[CrlFacts, RevocationState]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_as_json(facts, state) for facts, state in found], indent=2))
        return
    rows = [
        (
            facts.ca_id,
            key_name(facts.issuer_key_id),
            str(facts.number),
            str(facts.entries),
            moment(facts.this_update),
            moment(facts.next_update),
            _state(facts, state),
        )
        for facts, state in found
    ]
    print_table(("CA", "KEY", "NUMBER", "ENTRIES", "THIS UPDATE", "NEXT UPDATE", "STATE"), rows)


def _as_json(facts: CrlFacts, state: RevocationState) -> dict[str, Any]:
    return {
        "ca_id": facts.ca_id,
        "key": key_name(facts.issuer_key_id),
        "number": facts.number,
        "entries": facts.entries,
        "this_update": facts.this_update.isoformat().replace("+00:00", "Z"),
        "next_update": facts.next_update.isoformat().replace("+00:00", "Z"),
        "state": _state(facts, state),
    }


def _state(facts: CrlFacts, state: RevocationState) -> str:
    if facts.next_update <= now():
        return "ended"
    return "current" if facts.changes >= state.changes else "behind"
