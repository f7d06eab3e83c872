"""Every key of these tables has rows, and they differ: what a key does is seen from outside."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from kipuka_core.config.section import NotYet, Section
from kipuka_core.config.sections.revocation import Revocation
from kipuka_core.config.sections.server import Admin, AdminClientAuth, AdminTls, ClientAuth, Server, Tls
from tests.tls_settings.settings_kit import Row

TABLES: dict[str, type[Section]] = {
    "server": Server,
    "tls": Tls,
    "tls.client_auth": ClientAuth,
    "admin": Admin,
    "admin.client_auth": AdminClientAuth,
    "admin.tls": AdminTls,
    "revocation": Revocation,
}
OF_SERVER = {"server.strict_permissions", "server.admin_listen"}
"""The other keys of ``[server]`` are limits and time-outs, which have tests of their own."""


def keys() -> list[str]:
    """Every key; not those that are tables themselves, nor what is refused as not built yet."""
    fields = {f"{table}.{name}": field for table, it in TABLES.items() for name, field in it.model_fields.items()}
    return [
        key
        for key, field in fields.items()
        if key not in TABLES
        and not any(isinstance(mark, NotYet) for mark in field.metadata)
        and (not key.startswith("server.") or key in OF_SERVER)
    ]


def rows() -> list[Row]:
    """The rows of every ``test_table_*.py`` beside this file."""
    modules = [f"tests.tls_settings.{file.stem}" for file in sorted(Path(__file__).parent.glob("test_table_*.py"))]
    return [row for module in modules for row in import_module(module).ROWS]


@pytest.mark.parametrize("key", keys())
def test_the_values_of_a_key_are_told_apart_from_outside(key: str) -> None:
    seen = {row.value: row.sees for row in rows() if row.key == key}

    assert len({repr(each) for each in seen.values()}) > 1, f"one value of {key} and another look the same: add rows"


def test_every_row_is_about_a_key_that_there_is() -> None:
    tables = {row.key.rpartition(".")[0] for row in rows()}

    assert {row.key for row in rows()} - set(keys()) == set()
    assert tables == set(TABLES)
