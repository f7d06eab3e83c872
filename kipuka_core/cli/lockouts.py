"""``kipuka lockouts``: who gets 429 after too many wrong passwords."""

from __future__ import annotations

import click

from kipuka_core.cli.admin_access import AdminAccess, admin_command
from kipuka_core.cli.arguments import shown
from kipuka_core.cli.common import print_table


@click.group()
def lockouts() -> None:
    """Who is locked out after too many wrong passwords."""


@lockouts.command("list")
@admin_command
def list_lockouts(access: AdminAccess) -> None:
    """List lockouts that have not ended; the next to end first."""
    found = access.run(lambda admin: admin.json("GET", "lockouts"))
    rows = [
        (
            each["address"],
            "(whole address)" if each["entity_id"] is None else each["entity_id"],
            shown(each["locked_until"]),
        )
        for each in found
    ]
    access.show(found, lambda: print_table(("ADDRESS", "ENTITY", "UNTIL"), rows))


@lockouts.command("lift")
@admin_command
@click.argument("address")
@click.argument("entity_id", required=False)
def lift(access: AdminAccess, address: str, entity_id: str | None) -> None:
    """End the lockout of ADDRESS and ENTITY_ID; without ENTITY_ID that of the whole address."""
    query = {"address": address, "entity_id": entity_id}
    access.run(lambda admin: admin.request("DELETE", "lockouts", query=query))
    access.show({"lifted": query}, lambda: click.echo(f"lifted {address}" + (f" {entity_id}" if entity_id else "")))
