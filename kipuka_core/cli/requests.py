"""``kipuka requests``: enrolments that wait for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from kipuka_core.cli.admin_access import AdminAccess, admin_command
from kipuka_core.cli.arguments import limit_option, say_rest, shown
from kipuka_core.cli.common import print_table


@click.group()
def requests() -> None:
    """Enrolments that wait: look at them, approve, reject."""


@requests.command("list")
@admin_command
@click.option(
    "--state",
    type=click.Choice(["waiting", "pending", "issued", "refused", "intent", "all"]),
    default="waiting",
    show_default=True,
    help="pending: with an external CA. intent: such a CA has been asked, and its answer is not known.",
)
@limit_option
def list_requests(access: AdminAccess, state: str, limit: int) -> None:
    """List requests, newest first."""
    found = access.run(lambda admin: admin.listed("requests", {"state": state}, limit))

    def for_people() -> None:
        rows = [
            (each["id"], each["identity"], each["subject"], each["label"], shown(each["created_at"]), each["state"])
            for each in found.entries
        ]
        print_table(("ID", "IDENTITY", "SUBJECT", "LABEL", "CAME", "STATE"), rows)
        say_rest(found)

    access.show(found.entries, for_people)


@requests.command("show")
@admin_command
@click.argument("request_id", metavar="ID")
def show(access: AdminAccess, request_id: str) -> None:
    """Show the request with this ID, and what every policy says of it now."""
    found = access.run(lambda admin: admin.json("GET", f"requests/{quote(request_id, safe='')}"), needs_cas=True)
    access.show(found, lambda: _print(found))


@requests.command("approve")
@admin_command
@click.argument("request_id", metavar="ID")
def approve(access: AdminAccess, request_id: str) -> None:
    """Approve the request with this ID: policies judge it again, and its client gets the certificate when it asks."""
    done = access.run(
        lambda admin: admin.json("POST", f"requests/{quote(request_id, safe='')}/approve"), needs_cas=True
    )
    became = f"certificate {done['serial']}" if done["serial"] else "the external CA decides now"
    access.show(done, lambda: click.echo(f"approved {request_id}: {became}"))


@requests.command("settle")
@admin_command
@click.argument("request_id", metavar="ID")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM: the CA has issued this.",
)
@click.option("--not-issued", is_flag=True, help="The CA has issued nothing; the client may ask anew.")
def settle(access: AdminAccess, request_id: str, certificate: Path | None, not_issued: bool) -> None:
    """Say what became of the request with this ID at an external CA, after asking the operator of that CA.

    For a request that is held, because its outcome is unknown, and for one that is refused: with --not-issued the
    client's next identical request is a new one.
    """
    if not_issued == (certificate is not None):
        raise click.UsageError("say one of --certificate and --not-issued")
    body = {"certificate": None if certificate is None else certificate.read_text(encoding="ascii")}
    access.run(
        lambda admin: admin.request("POST", f"requests/{quote(request_id, safe='')}/settle", body=body), needs_cas=True
    )
    access.show({"settled": request_id}, lambda: click.echo(f"settled {request_id}"))


@requests.command("reject")
@admin_command
@click.argument("request_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="One line that the client is told.")
def reject(access: AdminAccess, request_id: str, reason: str | None) -> None:
    """Reject the request with this ID for good; its one-time password is free again."""
    body = {} if reason is None else {"reason": reason}
    access.run(
        lambda admin: admin.request("POST", f"requests/{quote(request_id, safe='')}/reject", body=body), needs_cas=True
    )
    access.show({"rejected": request_id}, lambda: click.echo(f"rejected {request_id}"))


def _print(each: dict[str, Any]) -> None:
    rows = [
        ("id", each["id"]),
        ("state", each["state"]),
        ("reason", each["reason"]),
        ("identity", f"{each['identity']} (by {each['authenticator']})"),
        ("from", each["source_address"]),
        ("came", shown(each["created_at"])),
        ("decided", shown(each["decided_at"])),
        ("at the CA", _at_ca(each)),
        ("request", f"{each['operation']} at {each['label'] or 'the path without a label'}"),
        ("subject", each["subject"]),
        ("names", ", ".join(each["sans"])),
        ("key", each["key_algorithm"]),
    ]
    rows += [(f"  {entry['policy']}", f"{entry['verdict']} {entry['reason']}".strip()) for entry in each["trace"]]
    if each["state"] == "waiting":
        rows += _approval(each)
    for name, value in rows:
        if value:
            click.echo(f"{name + ':':<13} {value}")


def _at_ca(each: dict[str, Any]) -> str:
    if each["ca_id"] is None:
        return ""
    called = f", which calls it {each['ca_reference']}" if each["ca_reference"] else ""
    then = f"; asked again {shown(each['next_poll_at'])}" if each["next_poll_at"] else ""
    if each["held"]:
        then = "; whether it was issued is unknown: ask that CA's operator, then `kipuka requests settle`"
    return f"{each['ca_id']} since {shown(each['asked_at'])}{called}{then}"


def _approval(each: dict[str, Any]) -> list[tuple[str, str]]:
    would = each["would_issue"]
    if would is None:
        return [("approval", f"would be refused: {each['refusal']}")]
    return [
        ("approval", "would issue:"),
        ("  subject", would["subject"] or "(empty)"),
        ("  names", ", ".join(would["sans"])),
        ("  valid", f"{shown(would['not_before'])} to {shown(would['not_after'])} at the latest"),
    ]
