"""Values that people type: moments, durations, and the filters of a search."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from kipuka_core.cli.admin_access import Found
from kipuka_core.cli.common import now
from kipuka_core.hooks.durations import parse_duration

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


class Seconds(click.ParamType[int]):
    """A duration such as ``90m``; the value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, or fail with what to write."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class When(click.ParamType[datetime]):
    """A moment (RFC 3339, or a date alone, UTC), or a duration from now: ``30d`` ahead, ``-30d`` back."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it, or fail with what to write."""
        if isinstance(value, datetime):
            return value
        try:
            if value.lstrip("+-")[:1].isdigit() and value[-1] in "smhd":
                seconds = parse_duration(value.lstrip("+-"))
                return now() + timedelta(seconds=-seconds if value.startswith("-") else seconds)
            moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(
                "write a moment like 2027-01-31 or 2027-01-31T12:00:00Z, or a duration like 30d or -30d", param, ctx
            )
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def stamp(moment: datetime | None) -> str | None:
    """A moment as the admin API reads it."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def shown(moment: str | None) -> str:
    """A moment of the admin API as tables show it."""
    return "" if moment is None else moment.replace("T", " ")


limit_option = click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="How many at most."
)

_FILTERS = (
    click.option("--subject", metavar="NAME", help="A CN or SAN, or the beginning of one: 'router-*'."),
    click.option("--status", type=click.Choice(["active", "revoked", "expired"])),
    click.option("--serial", metavar="HEX", help="The serial number."),
    click.option("--identity", metavar="ENTITY", help="The entity id that it was issued to."),
    click.option("--label", help="The label that it was issued at ('' for the path without one)."),
    click.option("--ca", "ca_id", metavar="ID", help="The CA that issued it."),
    click.option(
        "--expires-before",
        type=When(),
        metavar="WHEN",
        help="A moment such as 2027-01-31, or a duration from now: 30d.",
    ),
    click.option("--expires-after", type=When(), metavar="WHEN", help="The same."),
)


def certificate_filters(command: CommandT) -> CommandT:
    """Give a command the filters of a search for certificates, as keywords that :func:`filters_of` takes."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def filters_of(options: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given, as the admin API reads them."""
    values = {name: stamp(value) if isinstance(value, datetime) else value for name, value in options.items()}
    return {name: value for name, value in values.items() if value is not None}


def say_rest(found: Found) -> None:
    """On standard error, when a list does not show all."""
    if found.has_more:
        click.echo(f"({len(found.entries)} of {found.total}; --limit shows more)", err=True)
