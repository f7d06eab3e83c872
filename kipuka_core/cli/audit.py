"""``kipuka audit``: the audit trail."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from kipuka_core.cli.admin_access import AdminAccess, admin_command
from kipuka_core.cli.arguments import When, limit_option, say_rest, stamp
from kipuka_core.cli.audit_verify import verify_files
from kipuka_core.cli.common import print_table

_IN_COLUMNS = ("event", "time", "actor", "label", "request_id", "tls_version")


@click.group()
def audit() -> None:
    """The audit trail."""


@audit.command("list")
@admin_command
@click.option("--event", metavar="NAME", help="The event, such as certificate_issued.")
@click.option("--actor", metavar="NAME", help="Who did it.")
@click.option(
    "--target",
    metavar="WHAT",
    help="What it was done to: a serial number, a subject, an entity id, the id of a password or of a request.",
)
@click.option("--since", type=When(), metavar="WHEN", help="A moment such as 2027-01-31, or a duration back: -24h.")
@click.option("--until", type=When(), metavar="WHEN", help="The same; before it.")
@limit_option
def list_events(
    access: AdminAccess,
    *,
    event: str | None,
    actor: str | None,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> None:
    """Search the facts of the store, newest first."""
    query = {"event": event, "actor": actor, "target": target, "since": stamp(since), "until": stamp(until)}
    found = access.run(lambda admin: admin.gathered("audit", query, limit, lambda answer: answer["events"]))

    def for_people() -> None:
        rows = [(each["time"], each["event"], each.get("actor", ""), _rest(each)) for each in found.entries]
        print_table(("TIME", "EVENT", "ACTOR", "WHAT"), rows)
        say_rest(found)

    access.show({"events": found.entries, "total": int(found.total)}, for_people)


def _rest(fact: dict[str, Any]) -> str:
    values = {name: value for name, value in fact.items() if name not in _IN_COLUMNS}
    return " ".join(
        f"{name}={value if isinstance(value, str) and value.isalnum() else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
    )


audit.add_command(verify_files)
