"""``kipuka otp``: one-time passwords for first enrolments."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, BinaryIO
from urllib.parse import quote

import click

from kipuka_core.cli.admin_access import AdminAccess, AdminClient, AdminRefused, admin_command
from kipuka_core.cli.arguments import Seconds, shown, stamp
from kipuka_core.cli.common import now, print_table
from kipuka_core.errors import KipukaError

_BATCH = 500
_ENTRY = re.compile(r"\[(\d+)\][.:] ?(.*)", re.DOTALL)
_MADE = ("id", "token", "entity_id", "expires_at", "max_usage", "label", "subject_pattern")


@click.group()
def otp() -> None:
    """One-time passwords for first enrolments."""


@otp.command("create")
@admin_command
@click.argument("entity_id")
@click.option("--label", help="Good only at this label ('' for the path without one; default: at every one).")
@click.option(
    "--ttl",
    type=Seconds(),
    metavar="DURATION",
    help="How long it is good, such as 90m or 7d (default: [auth.otp] ttl).",
)
@click.option("--max-usage", type=click.IntRange(1), help="How many certificates it is good for.")
@click.option(
    "--subject-pattern",
    metavar="REGEX",
    help="What every name of the certificate has to match as a whole; {id} stands for ENTITY_ID.",
)
def create(
    access: AdminAccess,
    *,
    entity_id: str,
    label: str | None,
    ttl: int | None,
    max_usage: int | None,
    subject_pattern: str | None,
) -> None:
    """Make a one-time password for ENTITY_ID and print it: it is shown now and never again."""
    wanted = {"entity_id": entity_id, "label": label, "ttl_seconds": ttl, "max_usage": max_usage}
    wanted |= {"subject_pattern": subject_pattern}
    made = access.run(lambda admin: admin.json("POST", "otp/generate", body=wanted))

    def for_people() -> None:
        click.echo(made["token"])
        click.echo(f"id {made['id']}, for {entity_id!r}, until {shown(made['expires_at'])}", err=True)

    access.show(made, for_people)


@otp.command("batch")
@admin_command
@click.argument("file", type=click.File("rb"))
def batch(access: AdminAccess, file: BinaryIO) -> None:
    """Make a one-time password for every row of a CSV FILE (- for standard input), and print CSV with the tokens.

    The first row names the columns: entity_id, and any of ttl_seconds, max_usage, label, subject_pattern. They are made
    in pieces of 500; each piece is printed as soon as it is made, so that none is lost when a later one fails.
    """
    from kipuka_core.edges.http.admin_otp import FIRST_ROW, read_csv  # noqa: PLC0415  # the web framework: not for --help

    wanted = [each.model_dump() for each in read_csv(file.read())]
    made: list[Any] = []
    table = csv.DictWriter(sys.stdout, _MADE, lineterminator="\n")

    async def work(admin: AdminClient) -> None:
        with click.progressbar(
            length=len(wanted), label="passwords", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as bar:
            for start in range(0, len(wanted), _BATCH):
                try:
                    piece = await admin.json("POST", "otp/batch", body=wanted[start : start + _BATCH])
                except AdminRefused as refusal:
                    raise KipukaError(_by_row(refusal, start + FIRST_ROW)) from None
                if not access.as_json:
                    if not made:
                        table.writeheader()
                    table.writerows(piece)
                    sys.stdout.flush()
                made.extend(piece)
                bar.update(len(piece))

    try:
        access.run(work)
    finally:
        if made:
            access.show(made, lambda: None)


def _by_row(refusal: AdminRefused, first_row: int) -> str:
    """What the API says of an entry (``[3].label: …``; of the only one ``label: …``), by the row of the file."""
    if refusal.code != "invalid_request":
        return str(refusal)
    entry = _ENTRY.match(str(refusal))
    row, problem = (first_row, str(refusal)) if entry is None else (first_row + int(entry[1]), entry[2])
    return f"row {row}: {problem}"


@otp.command("list")
@admin_command
@click.option("--all", "with_ended", is_flag=True, help="Those that are used up, expired or revoked too.")
@click.option("--entity", metavar="ENTITY", help="Only those of this entity.")
def list_otps(access: AdminAccess, with_ended: bool, entity: str | None) -> None:
    """List one-time passwords that can still be used, newest first; the passwords themselves are stored nowhere."""
    query = {"all": "1" if with_ended else None, "entity_id": entity}
    found = access.run(lambda admin: admin.listed("otp", query, None)).entries
    at = now()
    rows = [
        (
            each["id"],
            each["entity_id"],
            "(any)" if each["label"] is None else each["label"] or "(none)",
            f"{each['usage_count']}/{each['max_usage']}",
            shown(each["expires_at"]),
            _state(each, at),
        )
        for each in found
    ]
    access.show(found, lambda: print_table(("ID", "ENTITY", "LABEL", "USED", "EXPIRES", "STATE"), rows))


@otp.command("revoke")
@admin_command
@click.argument("otp_ids", metavar="ID...", nargs=-1, required=True)
def revoke(access: AdminAccess, otp_ids: Sequence[str]) -> None:
    """Withdraw the one-time passwords with these IDs."""

    async def work(admin: AdminClient) -> None:
        for otp_id in otp_ids:
            try:
                await admin.request("DELETE", f"otp/{quote(otp_id, safe='')}")
            except KipukaError as error:
                raise KipukaError(f"{otp_id}: {error}; `kipuka otp list --all` shows them") from None
            if not access.as_json:
                click.echo(f"revoked {otp_id}")

    access.run(work)
    access.show({"revoked": list(otp_ids)}, lambda: None)


@otp.command("cleanup")
@admin_command
@click.option(
    "--older-than",
    type=Seconds(),
    default="30d",
    show_default=True,
    metavar="DURATION",
    help="Those that expired or were revoked longer ago than this.",
)
def cleanup(access: AdminAccess, older_than: int) -> None:
    """Remove the records of one-time passwords that ended long ago; the audit trail of them stays."""
    body = {"ended_before": stamp(now() - timedelta(seconds=older_than))}
    done = access.run(lambda admin: admin.json("POST", "otp/cleanup", body=body))
    access.show(done, lambda: click.echo(f"removed {done['removed']}"))


def _state(each: dict[str, Any], at: datetime) -> str:
    if each.get("revoked_at"):
        return "revoked"
    if each["usage_count"] >= each["max_usage"]:
        return "used"
    return "expired" if datetime.fromisoformat(each["expires_at"]) <= at else "usable"
