"""Inserts that yield to a row that is there, which SQLAlchemy has by dialect."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    return _INSERTS[connection.dialect.name](table)


def insert_unless_there(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row unless it would break a uniqueness; whether it did. Waits for others that insert the same."""
    (key,) = table.primary_key
    statement = insert_into(connection, table).on_conflict_do_nothing().returning(key)
    return connection.execute(statement, row).first() is not None  # psycopg does not tell how many rows
