"""``kipuka certs``: what was issued."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kipuka_core.cli.admin_access import AdminAccess, AdminClient, admin_command
from kipuka_core.cli.arguments import certificate_filters, filters_of, limit_option, say_rest, shown
from kipuka_core.cli.common import print_table
from kipuka_core.domain.admin.reasons import RevocationReason

_CHUNK = 500
_reason_option = click.option(
    "--reason",
    type=click.Choice([each.name for each in RevocationReason]),
    default=RevocationReason.unspecified.name,
    show_default=True,
    help="Of RFC 5280 5.3.1; certificateHold can be released.",
)
_ca_option = click.option("--ca", "ca_id", metavar="ID", help="The CA, where several have used the serial number.")


@click.group()
def certs() -> None:
    """Look at what was issued, and revoke."""


@certs.command("list")
@admin_command
@certificate_filters
@limit_option
def list_certificates(access: AdminAccess, limit: int, **filters: Any) -> None:
    """List certificates, newest first; those with --expires-… soonest first."""
    found = access.run(lambda admin: admin.listed("certs", filters_of(filters), limit))

    def for_people() -> None:
        _print_table(found.entries)
        say_rest(found)

    access.show(found.entries, for_people)


@certs.command("show")
@admin_command
@click.argument("serial")
@_ca_option
@click.option("--pem", is_flag=True, help="Print the certificate itself as PEM.")
def show_certificate(access: AdminAccess, serial: str, ca_id: str | None, pem: bool) -> None:
    """Show the certificate with this SERIAL (hex)."""
    found = access.run(lambda admin: admin.json("GET", f"certs/{_path(serial)}", query={"ca_id": ca_id}))
    access.show(found, lambda: click.echo(found["pem"], nl=False) if pem else _print(found))


@certs.command("export")
@admin_command
@click.argument("serial")
@_ca_option
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["pem", "der", "chain"]),
    default="pem",
    show_default=True,
    help="chain: PEM up to the root.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there.")
def export(access: AdminAccess, serial: str, ca_id: str | None, file_format: str, output: Path | None) -> None:
    """Write out the certificate with this SERIAL (hex)."""
    query = {"ca_id": ca_id, "format": file_format}

    async def work(admin: AdminClient) -> bytes:
        return (await admin.request("GET", f"certs/{_path(serial)}", query=query)).content

    content = access.run(work, needs_cas=file_format == "chain")
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        output.write_bytes(content)


@certs.command("revoke")
@admin_command
@click.argument("serial")
@_ca_option
@_reason_option
def revoke_certificate(access: AdminAccess, serial: str, ca_id: str | None, reason: str) -> None:
    """Revoke the certificate with this SERIAL (hex): it authenticates nobody here any more."""
    found = _change(access, serial, ca_id, "revoke", {"reason": reason})
    said = f"revoked {found['serial']} ({found['subject']})"
    if found["revocation_reason"] != reason:
        said += f" already at {shown(found['revoked_at'])}, for {found['revocation_reason']}, which stays"
    access.show(found, lambda: click.echo(said))


@certs.command("release")
@admin_command
@click.argument("serial")
@_ca_option
def release_certificate(access: AdminAccess, serial: str, ca_id: str | None) -> None:
    """Let the certificate with this SERIAL (hex) count again, which was on hold (certificateHold)."""
    found = _change(access, serial, ca_id, "release", None)
    access.show(found, lambda: click.echo(f"released {found['serial']} ({found['subject']})"))


@certs.command("revoke-found")
@admin_command
@certificate_filters
@_reason_option
@click.option("--yes", is_flag=True, help="Do it. Without this, only count them and show the first.")
def revoke_found(access: AdminAccess, reason: str, yes: bool, **filters: Any) -> None:
    """Revoke every certificate that a search finds; broken off, what was revoked stays so."""
    wanted = {"query": filters_of(filters), "reason": reason}

    async def work(admin: AdminClient) -> dict[str, Any]:
        would: dict[str, Any] = await admin.json("POST", "certs/revoke", body=wanted)
        return await _revoke_all(admin, wanted, would) if yes else would

    done = access.run(work)

    def for_people() -> None:
        if not yes:
            _print_table(done["sample"])
        verb = "revoked" if yes else "would revoke"
        click.echo(f"{verb} {done['count']}" + ("" if yes else "; with --yes"), err=not yes)

    access.show(done, for_people)


async def _revoke_all(admin: AdminClient, wanted: dict[str, Any], would: dict[str, Any]) -> dict[str, Any]:
    done = {**would, "dry_run": False, "count": 0}
    chunk = {**wanted, "dry_run": False, "limit": _CHUNK}
    with click.progressbar(
        length=would["count"], label="revoking", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        while (revoked := await admin.json("POST", "certs/revoke", body=chunk))["count"]:
            done["count"] += revoked["count"]
            done["remaining"] = revoked["remaining"]
            bar.update(revoked["count"])
            if not revoked["remaining"]:
                break
    return done


def _change(
    access: AdminAccess, serial: str, ca_id: str | None, what: str, body: dict[str, Any] | None
) -> dict[str, Any]:
    """Do it, and return the certificate as it is now."""
    query = {"ca_id": ca_id}

    async def work(admin: AdminClient) -> dict[str, Any]:
        await admin.request("POST", f"certs/{_path(serial)}/{what}", query=query, body=body)
        changed: dict[str, Any] = await admin.json("GET", f"certs/{_path(serial)}", query=query)
        return changed

    return access.run(work)


def _path(serial: str) -> str:
    return "".join(character for character in serial if character.isalnum()) or "0"


def _print_table(entries: list[dict[str, Any]]) -> None:
    rows = [
        (each["serial"], each["subject"], each["label"], each["identity"], shown(each["expires_at"]), each["status"])
        for each in entries
    ]
    print_table(("SERIAL", "SUBJECT", "LABEL", "IDENTITY", "EXPIRES", "STATUS"), rows)


def _print(each: dict[str, Any]) -> None:
    rows = {
        "serial": each["serial"],
        "subject": each["subject"],
        "names": ", ".join(each["sans"]),
        "key": each["key_algorithm"],
        "ca": each["ca_id"],
        "label": each["label"] or "(none)",
        "identity": f"{each['identity']} (by {each['authenticator']})",
        "issued": shown(each["issued_at"]),
        "expires": shown(each["expires_at"]),
        "status": each["status"],
        "revoked": shown(each["revoked_at"]),
        "reason": each["revocation_reason"] or "",
        "request": each["request_id"],
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name + ':':<10} {value}")
