"""Engines: one that writes, one that reads, and what SQLite needs to be durable and shared by processes."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from kipuka_core.edges.store import postgresql
from kipuka_core.errors import ConfigurationError

_KEY = "db.url"
_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# PostgreSQL: serialization_failure, deadlock_detected, lock_not_available
_DEADLOCK = "40P01"
_CONTENTION_STATES = frozenset({"40001", _DEADLOCK, "55P03"})
_TIMED_OUT = "57014"  # PostgreSQL: query_canceled


@dataclass(frozen=True, slots=True)
class Engines:
    """Ways into one database, without a pool: each thread keeps a connection of its own."""

    writer: Engine
    reader: Engine
    lookup: Engine | None
    """For reads on the event loop, which must not wait; None on PostgreSQL, where every read does."""
    sqlite_file: Path | None
    """The database file; None on PostgreSQL."""
    file_id: tuple[int, int] | None = None
    """Device and inode of that file when it was opened."""

    def check_identity(self) -> None:
        """Raise OSError when the file was removed or replaced. Costs one system call.

        SQLite's open connections do not notice: they go on in a file that nobody will find again.
        """
        if self.sqlite_file is not None and _file_id(self.sqlite_file) != self.file_id:
            raise OSError(f"{self.sqlite_file} is not the file that was opened; restart kipuka")

    def check_file(self) -> None:
        """Raise OSError or SQLAlchemyError when the file was removed, replaced or damaged."""
        self.check_identity()
        if self.sqlite_file is None:
            return
        with self.reader.connect() as connection:  # a new one, which reads the header
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master").first()

    def dispose(self) -> None:
        """Close what is open."""
        for engine in (self.writer, self.reader, self.lookup):
            if engine is not None:
                engine.dispose()


def default_sqlite_url(state_dir: Path) -> str:
    """The ``[db] url`` of a deployment that sets none: ``kipuka.db`` in the state directory."""
    return URL.create("sqlite", database=str(state_dir / "kipuka.db")).render_as_string()


def create_engines(url: str, *, busy_timeout_seconds: float) -> Engines:
    """Engines for ``[db] url``; a SQLite file that is missing is made, readable by its owner alone.

    Raises :class:`~kipuka_core.errors.ConfigurationError` for a URL or a file that cannot be used.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port
        raise ConfigurationError(
            _KEY, "is not a database URL; write sqlite:///… or postgresql://…"
        ) from None  # not the cause: it quotes the URL, password included
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _sqlite_engines(parsed, busy_timeout_seconds)
    if parsed.drivername in {"postgresql", postgresql.DRIVER}:
        return _postgresql_engines(parsed, busy_timeout_seconds)
    raise ConfigurationError(_KEY, f"{parsed.drivername} is not supported; write sqlite:///… or postgresql://…")


def _sqlite_engines(url: URL, busy_timeout_seconds: float) -> Engines:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(_KEY, "SQLite needs a file, shared by the worker processes; write sqlite:///<path>")
    path = Path(url.database).absolute()
    _make_private_file(path)

    def engine(timeout_seconds: float, **options: Any) -> Engine:
        return create_engine(
            URL.create("sqlite", database=str(path)),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"timeout": timeout_seconds, "check_same_thread": False},
            **options,
        )

    # The writer does not wait inside SQLite, whose busy handler sleeps up to 100 ms at a time and starves beside a busy
    # process: the writing thread asks again every fraction of a millisecond.
    writer = engine(0)
    reader = engine(busy_timeout_seconds, isolation_level="AUTOCOMMIT")
    lookup = engine(0, isolation_level="AUTOCOMMIT")
    event.listen(writer, "connect", _configure_writer)
    event.listen(writer, "begin", _begin_immediate)
    for reading in (reader, lookup):
        event.listen(reading, "connect", _configure_reader)
    return Engines(writer, reader, lookup, path, _file_id(path))


def _postgresql_engines(url: URL, busy_timeout_seconds: float) -> Engines:
    try:
        writer, reader = postgresql.postgresql_engines(url, busy_timeout_seconds)
        return Engines(writer, reader, None, None)
    except ModuleNotFoundError:
        raise ConfigurationError(_KEY, "PostgreSQL needs its driver: install kipuka[postgresql]") from None


def _make_private_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise ConfigurationError(_KEY, f"{path}: the directory {path.parent} does not exist; create it")
    try:
        # Never one that is there: closing it would drop the locks that SQLite holds on it for another store of this
        # process (POSIX), and the next program to close the database would take its log away from under that store.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.is_dir() or not os.access(path, os.W_OK):
            reason = os.strerror(errno.EISDIR if path.is_dir() else errno.EACCES)
            raise ConfigurationError(_KEY, f"{path}: cannot be opened for writing ({reason})") from None
    except OSError as error:
        raise ConfigurationError(_KEY, f"{path}: cannot be opened for writing ({error.strerror})") from None


def _file_id(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _configure_writer(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours: the sqlite3 module shall not begin any
    # Changing to WAL takes an exclusive lock for a moment, which SQLite does not wait for as it does for others.
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # fsync before a commit returns (invariant 2)
    connection.execute("PRAGMA foreign_keys = ON")


def _configure_reader(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA query_only = ON")


def _begin_immediate(connection: Connection) -> None:
    # Taking the write lock first: one that reads and then writes cannot be continued after another's write.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def is_contention(error: DBAPIError) -> bool:
    """Whether another process was in the way, so that the same transaction may succeed a moment later."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _BUSY_CODES  # extended codes carry the primary one in the low byte
    return getattr(error.orig, "sqlstate", None) in _CONTENTION_STATES


def is_deadlock(error: DBAPIError) -> bool:
    """Whether two transactions waited for one another, and this one was ended."""
    return getattr(error.orig, "sqlstate", None) == _DEADLOCK


def concerns_all(error: DBAPIError) -> bool:
    """Whether the database is in trouble, or slow, rather than one statement wrong."""
    return error.connection_invalidated or is_contention(error) or getattr(error.orig, "sqlstate", None) == _TIMED_OUT


def describe(error: SQLAlchemyError) -> str:
    """One line about a database error, without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return next(iter(str(cause).splitlines()), type(cause).__name__)


@contextmanager
def configuration_errors(engines: Engines) -> Iterator[None]:
    """Turns database errors of opening into one line that names the file or the setting."""
    try:
        yield
    except SQLAlchemyError as error:
        where = f"{engines.sqlite_file}: " if engines.sqlite_file else ""
        hint = ""
        if isinstance(error, DBAPIError) and is_contention(error):
            hint = "; another program holds it: stop that first"
        raise ConfigurationError(_KEY, f"{where}{describe(error)}{hint}") from None
