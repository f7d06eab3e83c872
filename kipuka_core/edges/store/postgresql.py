"""Sessions on PostgreSQL: what each of them is told at its start, and what a database has to be."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    NullPool,
    bindparam,
    create_engine,
    event,
    func,
    select,
    text,
)

from kipuka_core.errors import ConfigurationError

DRIVER = "postgresql+psycopg"
_CONNECTING = {
    # A database behind a network that swallows packets is noticed; a request waits no longer than for a dead disk.
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "fallback_application_name": "kipuka",
}
"""Of libpq; the URL's own come first."""
_STATEMENT_SECONDS = 60
_IDLE_IN_TRANSACTION_SECONDS = 30
_FOR_ALL = """
SELECT set_config('lock_timeout', %(lock_timeout)s, false),
       set_config('idle_in_transaction_session_timeout', %(idle)s, false),
       set_config('statement_timeout', %(statement)s, false),
       set_config('jit', 'off', false)
"""
# Where a commit does not wait for its disk, a certificate that has left may be without a record after a crash.
_FOR_WRITING = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
# Every search has its index. Which one, the planner knows; that a scan of the table would be quicker, it believes where
# most rows meet a filter, as if they lay everywhere among the others.
_FOR_READING = """
SELECT set_config('default_transaction_read_only', 'on', false), set_config('enable_seqscan', 'off', false)
"""
_AS_LONG_AS_IT_TAKES = text(
    "SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false),"
    " set_config('idle_in_transaction_session_timeout', '0', false)"
)
_ONE_AT_A_TIME = select(func.pg_advisory_xact_lock(bindparam("number")))


def postgresql_engines(url: URL, busy_timeout_seconds: float) -> tuple[Engine, Engine]:
    """An engine that writes and one that reads. Raises ModuleNotFoundError without the driver."""
    # READ COMMITTED, whatever the database's default is: after waiting for a lock the next statement has to see what
    # its holder has done.
    writer = _engine(url, isolation_level="READ COMMITTED")
    reader = _engine(url, isolation_level="AUTOCOMMIT")
    settings = {
        "lock_timeout": f"{max(1, round(busy_timeout_seconds * 1000))}ms",
        "statement": f"{_STATEMENT_SECONDS}s",
        "idle": f"{_IDLE_IN_TRANSACTION_SECONDS}s",
    }
    for engine, further in ((writer, _FOR_WRITING), (reader, _FOR_READING)):

        def configure(connection: Any, _record: Any, further: str = further) -> None:
            connection.adapters.register_dumper(str, _text_dumper())
            connection.execute(_FOR_ALL, settings)
            connection.execute(further)
            if not connection.autocommit:
                connection.commit()  # a setting is undone with its transaction

        event.listen(engine, "connect", configure)
        event.listen(engine, "handle_error", _leave_values_out)
    return writer, reader


def _engine(url: URL, isolation_level: Any) -> Engine:
    defaults = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    return create_engine(
        url.set(drivername=DRIVER),
        poolclass=NullPool,
        hide_parameters=True,
        isolation_level=isolation_level,
        connect_args=defaults | {"client_encoding": "utf8"},
    )


def _leave_values_out(context: ExceptionContext) -> None:
    """Of an error of PostgreSQL's its first line: those below it quote rows."""
    error, wrapped = context.original_exception, context.sqlalchemy_exception
    line = next(iter(str(error).splitlines()), type(error).__name__)
    error.args = (line,)
    if wrapped is not None:
        wrapped.args = (f"({type(error).__name__}) {line}",)


def _text_dumper() -> Any:
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415  an extra

    class TextDumper(StrDumperUnknown):
        """PostgreSQL's text holds no NUL: what has one finds nothing, and is no reason to fail."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\ufffd"))

    return TextDumper


def check_database(connection: Connection) -> None:
    """Raise ConfigurationError for a database that cannot hold what a SQLite file holds, or not now."""
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise ConfigurationError(
            "db.url",
            f"{_name_of(connection)}: the encoding of the database is {encoding}; make one with ENCODING 'UTF8'",
        )
    if connection.execute(text("SELECT pg_is_in_recovery()")).scalar():
        raise ConfigurationError(
            "db.url",
            f"{_name_of(connection)}: this server is a standby, which nobody writes to; name the primary, or"
            " several hosts with target_session_attrs=read-write",
        )


def _name_of(connection: Connection) -> str:
    return connection.engine.url.database or "the database"


def take_all_the_time(connection: Connection) -> None:
    """Lift the limits on a session: a migration takes what it takes, and others wait for it."""
    connection.execute(_AS_LONG_AS_IT_TAKES)


def one_at_a_time(connection: Connection, number: int) -> None:
    """Wait until no other transaction has asked for this number, and keep others waiting until this one ends.

    For jobs that count rows before they add one. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_ONE_AT_A_TIME, {"number": number})
