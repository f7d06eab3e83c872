"""Reading single rows on the event loop's own thread, where that is cheaper than handing the work to another one.

A row that SQLite finds by an index costs about 30 microseconds; a thread and back costs more, and every request has
two or three such questions. Whatever scans, or waits for somebody, stays in the reading thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from kipuka_core.edges.store.engine import describe, is_contention
from kipuka_core.edges.store.writer import Batch, JobThread
from kipuka_core.errors import StoreUnavailable

T = TypeVar("T")


class Lookups:
    """Runs point reads at once; what would have to wait for another process goes to ``thread``."""

    def __init__(self, engine: Engine, *, thread: JobThread, check: Callable[[], None]) -> None:
        """``engine`` does not wait for locks. ``check`` raises OSError when its file is not the right one any more."""
        self._engine = engine
        self._thread = thread
        self._check = check
        self._connection: Connection | None = None
        self._closed = False

    async def run(self, function: Callable[[Batch], T]) -> T:
        """Return what ``function`` reads. Raises StoreUnavailable when the database fails."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            self._check()
            if self._connection is None:
                self._connection = self._engine.connect()
            return function(Batch(self._connection))
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        except SQLAlchemyError as error:
            self._drop_connection()
            if not (isinstance(error, DBAPIError) and is_contention(error)):
                raise StoreUnavailable(describe(error)) from error
        return await self._thread.run(function)

    def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None
