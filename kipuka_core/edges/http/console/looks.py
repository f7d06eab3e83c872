"""How values are written on a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from markupsafe import Markup, escape

from kipuka_core.model.oids import EXT_KEY_USAGES

_LINES = frozenset("\n\t")
_USAGE_NAMES = {oid: name for name, oid in EXT_KEY_USAGES.items()}


def shown(value: Any) -> Any:
    """What every expression of a template passes, before it is escaped.

    Names come from clients. A character that cannot be seen, or that turns the direction of the text, would let one
    name look like another: it is written as its number.
    """
    if value is None:
        return ""
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return "".join(each if each.isprintable() or each in _LINES else f"\\u{{{ord(each):x}}}" for each in value)


def exact(value: object) -> Markup:
    """The value of a field that is sent back: escaped, and otherwise as it is."""
    return escape("" if value is None else value)


def moment(value: datetime | str | None) -> Markup:
    """A moment, in UTC, for people and for programs."""
    if value is None or value == "":
        return Markup('<span class="quiet">never</span>')
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    value = value.astimezone(UTC)
    stamp = value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(stamp, f"{value:%Y-%m-%d %H:%M} UTC")


def day(value: date | datetime) -> str:
    """A day."""
    return f"{value:%Y-%m-%d}"


def colon_hex(serial: str) -> str:
    """A serial number, easier to compare."""
    padded = serial if len(serial) % 2 == 0 else f"0{serial}"
    return ":".join(padded[place : place + 2] for place in range(0, len(padded), 2))


def words(code: str) -> str:
    """A stable word of the interface for a person: ``wrong_secret`` is "wrong secret"."""
    return code.replace("_", " ")


def usage_name(oid: str) -> str:
    """An extended key usage by its name, where it has one here."""
    return _USAGE_NAMES.get(oid, oid)


def list_twice(value: object) -> tuple[str, str]:
    """An option of a choice that is called what it is."""
    return str(value), str(value)


FILTERS: Mapping[str, Any] = {
    "colon_hex": colon_hex, "day": day, "exact": exact, "list_twice": list_twice, "moment": moment,
    "usage_name": usage_name, "words": words,
}  # fmt: skip
