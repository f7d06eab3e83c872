"""The schema is what this version of kipuka expects, or is brought there, once, however many workers start."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from kipuka_core.edges.store.engine import Engines, is_contention
from kipuka_core.edges.store.tables import metadata
from kipuka_core.errors import ConfigurationError

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0006"
"""The newest revision in ``migrations/versions``. Kept here because asking Alembic costs 0.6 s of every start."""
_ADVISORY_LOCK = 0x6B69_7075_6B61  # "kipuka", the same number for every worker of every host


def ensure_schema(engines: Engines, *, busy_timeout_seconds: float) -> None:
    """Migrate to :data:`HEAD` where needed.

    Raises :class:`~kipuka_core.errors.ConfigurationError` for a database that a newer kipuka has migrated.
    """
    deadline = time.monotonic() + busy_timeout_seconds
    while True:
        try:
            return _ensure_schema(engines)
        except OperationalError as error:
            if not is_contention(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


def _ensure_schema(engines: Engines) -> None:
    if _current_revision(engines.reader) == HEAD:
        _open_for_writing(engines.writer)
        return
    with _exclusively(engines):
        # Another worker may have done it while this one waited for the lock.
        if _current_revision(engines.reader) != HEAD:
            with engines.writer.begin() as connection:
                _upgrade(connection)


def _open_for_writing(writer: Engine) -> None:
    # Begun and left: what keeps this process from writing (a lock, a read-only file system) is found at start-up.
    with writer.connect() as connection, connection.begin():
        pass


def _current_revision(reader: Engine) -> str | None:
    with reader.connect() as connection:
        present = set(inspect(connection).get_table_names())
        if "alembic_version" not in present:
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision is not None and revision not in known_revisions():
        raise ConfigurationError(
            "db.url",
            f"{_name_of(reader)}: the database has schema {revision}, this kipuka knows up to {HEAD};"
            " use the newer kipuka",
        )
    missing = sorted(metadata.tables.keys() - present)
    if revision == HEAD and missing:
        raise ConfigurationError("db.url", f"{_name_of(reader)} lacks the table {missing[0]}; restore a backup")
    return revision


def _name_of(engine: Engine) -> str:
    return engine.url.database or "the database"


def known_revisions() -> set[str]:
    """The revisions that this kipuka can bring up to date."""
    return {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}


@contextmanager
def _exclusively(engines: Engines) -> Iterator[None]:
    """Hold the migration lock: a lock file beside a SQLite file, an advisory lock on PostgreSQL."""
    if engines.sqlite_file is None:
        with engines.writer.connect() as connection:  # closing the session gives the lock back
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _ADVISORY_LOCK})
            yield
        return
    lock_file = engines.sqlite_file.with_name(engines.sqlite_file.name + ".migration-lock")
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  costs 0.6 s, and most starts do not migrate
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
