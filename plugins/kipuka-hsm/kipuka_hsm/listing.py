"""Tokens and keys as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from kipuka_hsm.messages import to_bytes
from kipuka_hsm.text import shown

Rows = list[tuple[str, ...]]


def token_rows(tokens: Sequence[dict[str, Any]]) -> Rows:
    """Header and one row a token."""
    rows: Rows = [("TOKEN", "SERIAL", "MANUFACTURER", "MODEL", "SLOT", "PIN")]
    rows += [
        (
            *(shown(each[name]) for name in ("label", "serial", "manufacturer", "model")),
            str(each["slot_id"]),
            _pin_state(each),
        )
        for each in tokens
    ]
    return rows


def key_rows(token: dict[str, Any], keys: Sequence[dict[str, Any]]) -> Rows:
    """Header and one row a key, with the URI that names it."""
    rows: Rows = [("URI", "TYPE", "SIGN", "SENSITIVE", "EXTRACTABLE")]
    for each in keys:
        flags = tuple(_yes_no(each[name]) for name in ("sign", "sensitive", "extractable"))
        rows.append((_uri(token, each), each["type"], *flags))
    return rows


def matching_keys(keys: Sequence[dict[str, Any]], label: str | None, key_id: bytes | None) -> Sequence[dict[str, Any]]:
    """Those with this label and id; None matches everything."""
    return [
        each
        for each in keys
        if (label is None or each["label"] == label) and (key_id is None or to_bytes(each["id"]) == key_id)
    ]


def print_rows(rows: Rows, if_empty: str) -> None:
    """Print aligned columns, or a sentence for a table without rows."""
    if len(rows) == 1:
        click.echo(if_empty)
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _uri(token: dict[str, Any], key: dict[str, Any]) -> str:
    parts = [f"token={quote(token['label'], safe='')}"]
    if key["label"]:
        parts.append(f"object={quote(key['label'], safe='')}")
    if key_id := to_bytes(key["id"]):
        parts.append("id=" + "".join(f"%{byte:02X}" for byte in key_id))
    return "pkcs11:" + ";".join(parts)


def _pin_state(token: dict[str, Any]) -> str:
    if token["pin_locked"]:
        return "locked"
    if token["pin_final_try"]:
        return "one try left"
    return "a wrong PIN was tried" if token["pin_count_low"] else "ok"


def _yes_no(value: bool | None) -> str:  # a flag as a token has it
    return "?" if value is None else "yes" if value else "no"
