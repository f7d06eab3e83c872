"""A consistent copy of a SQLite database that is in use, and what restoring one has to see to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from kipuka_core.edges.store.moments import from_micros, to_micros
from kipuka_core.errors import KipukaError
from kipuka_core.model.event import Event

_NEWEST = {
    "certificates": "SELECT max(issued_at) FROM certificates",
    "revocations": "SELECT max(revoked_at) FROM certificates",
    "requests": "SELECT max(created_at) FROM requests",
    "passwords": "SELECT max(created_at) FROM otps",
    "events": "SELECT max(time) FROM events",
}
_COUNTS = {name: f"SELECT count(*) FROM {name}" for name in ("certificates", "requests", "otps", "events")}  # noqa: S608


class SnapshotFailed(KipukaError):
    """A database that cannot be copied, or a copy that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database holds: its schema, how many rows, and the newest moment of each kind (microseconds)."""

    schema: str
    counts: Mapping[str, int]
    newest: Mapping[str, int]


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite ``[db] url``; None for another database."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.drivername.startswith("sqlite") and parsed.database else None


def copy_database(source: Path, target: Path) -> None:
    """Write what is committed now to a new file, while others go on writing. Raises SnapshotFailed."""
    with _errors(source), _opened(source, "ro") as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


def contents_of(file: Path) -> Contents:
    """Look into a database. Raises SnapshotFailed for one that is damaged or no database of kipuka's."""
    with _errors(file), _opened(file, "ro") as connection:
        problems = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise SnapshotFailed(f"{file} is damaged: {problems[0]}")
        schema = str(_one(connection, "SELECT version_num FROM alembic_version"))
        counts = {name: int(_one(connection, query)) for name, query in _COUNTS.items()}
        newest = {name: int(_one(connection, query) or 0) for name, query in _NEWEST.items()}
    return Contents(schema, counts, newest)


def newer_things(there: Contents, copied: Mapping[str, int]) -> list[str]:
    """What a database holds that a copy does not know of, in words; empty when the copy is as new."""
    return [
        f"{name} up to {from_micros(moment):%Y-%m-%d %H:%M:%SZ}"
        for name, moment in there.newest.items()
        if moment > copied.get(name, 0)
    ]


def finish_restored(file: Path, *, event: Event, withdraw_passwords: bool, now: datetime) -> int:
    """Prepare a copy for use, durably; how many one-time passwords were withdrawn. Raises SnapshotFailed.

    Which of them were used since the copy was made, nobody knows: what may be used only once is withdrawn.
    """
    with _errors(file), _opened(file, "rw") as connection:
        withdrawn = 0
        if withdraw_passwords:
            withdrawn = connection.execute(
                "UPDATE otps SET revoked_at = ?"
                " WHERE revoked_at IS NULL AND usage_count < max_usage AND expires_at > ?",
                (to_micros(now), to_micros(now)),
            ).rowcount
            connection.execute("DELETE FROM otp_reservations")
        body = json.dumps(event.as_dict(), ensure_ascii=False, separators=(",", ":"))
        connection.execute(
            "INSERT INTO events (time, name, actor, request_id, label, source_address, body)"
            " VALUES (?, ?, ?, '', '', '', ?)",
            (to_micros(event.time), event.name, event.actor, body),
        )
        connection.commit()
    return withdrawn


def fold_log_in(file: Path) -> None:
    """Bring everything of a database that nobody uses into its one file. Raises SnapshotFailed."""
    with _errors(file), _opened(file, "rw") as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise SnapshotFailed(f"{file} is in use: stop what uses it first")


def _one(connection: sqlite3.Connection, query: str) -> Any:
    (value,) = connection.execute(query).fetchone()
    return value


@contextmanager
def _opened(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=30)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        yield connection


@contextmanager
def _errors(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SnapshotFailed(f"{file}: {error}") from None
