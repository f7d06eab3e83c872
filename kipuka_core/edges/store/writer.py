"""A thread with a connection: takes whatever is queued and runs it as one transaction.

Concurrent requests so share a transaction, an fsync and a wake-up of the event loop. The engine beneath is synchronous
because an asynchronous one costs a thread hop and a greenlet switch per statement, this one costs a hop per batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from kipuka_core.edges.store.engine import concerns_all, describe, is_contention, is_deadlock
from kipuka_core.errors import StoreUnavailable, Unavailable

T = TypeVar("T")
Step = Callable[[Connection, list[Any]], None]
"""Does for many items what would cost a statement for each."""


class Batch:
    """One transaction as its jobs see it."""

    __slots__ = ("_gathered", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._gathered: dict[Step, list[Any]] = {}

    def together(self, step: Step, item: Any) -> None:
        """Have ``step`` run at the end of the batch, once, with this item and those of the other jobs.

        The jobs of a batch are concurrent, so each may equally well have come before the others' gathered items. What
        must not come later than it was submitted raises in its step: then every job runs again in a batch of its own.
        """
        self._gathered.setdefault(step, []).append(item)

    def finish(self) -> None:
        """Run the gathered steps."""
        for step, items in self._gathered.items():
            step(self.connection, items)


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[[Batch], Any]
    future: asyncio.Future[Any]
    locks: str | None


@dataclass(frozen=True, slots=True)
class _Outcome:
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class _NotConnected(Exception):
    """There is no connection: nobody's job is to blame, and none has begun."""


class _Entangled(Exception):
    """The jobs of this batch and another process's wait for one another: alone, each gets through."""


class _CommitFailed(Exception):
    """The transaction's end is unknown: running it again could do it twice."""


class JobThread:
    """Runs jobs in batches on one connection; made and used on one event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        max_pending: int,
        busy_timeout_seconds: float,
        check: Callable[[], None] = lambda: None,
        take_along: Callable[[Connection], Callable[[], None]] | None = None,
        lock: Callable[[Connection, Sequence[str]], None] | None = None,
    ) -> None:
        """``check`` runs before every batch; an OSError from it is StoreUnavailable for all of the batch.

        ``lock`` runs at the beginning of every transaction with what its jobs lock, in order.

        ``take_along`` runs at the end of every transaction, and what it returns when the transaction is durable.
        """
        self._engine = engine
        self._check = check
        self._take_along = take_along
        self._lock = lock
        self._max_pending = max_pending
        self._busy_timeout_seconds = busy_timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._submitted: list[_Job] = []
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._pending = 0
        self._closed = False
        self._connection: Connection | None = None
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """How many jobs are not done yet."""
        return self._pending

    async def run(self, function: Callable[[Batch], T], *, share: float = 1.0, locks: str | None = None) -> T:
        """Run ``function`` in the thread and return its result when its transaction is durable.

        ``share`` is how full the queue may be for this job: what matters less leaves room for what matters more.
        ``locks`` names the row that it begins by locking.

        It may run more than once, in transactions that were rolled back, and runs to its end even when the caller is
        cancelled. Raises what it raises; StoreUnavailable when the database fails; Unavailable when the queue is full.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._pending >= self._max_pending * share:
            raise Unavailable("the server is overloaded; try again later")
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending += 1
        if not self._submitted:
            self._loop.call_soon(self._hand_over)
        self._submitted.append(_Job(function, future, locks))
        return await future

    async def aclose(self) -> None:
        """Take no more jobs, finish those that are queued, close the connection."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.shield(asyncio.to_thread(self._thread.join))

    # -- in the thread ---------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while jobs := self._take():
            outcomes = self._run_all(jobs)
            with contextlib.suppress(RuntimeError):  # the loop ended without closing the store: nobody waits
                self._loop.call_soon_threadsafe(self._deliver, outcomes)
        self._drop_connection()

    def _take(self) -> list[_Job]:
        """Wait for a job and take all that are there; empty: the store was closed and all jobs are done."""
        jobs: list[_Job] = []
        while not jobs or not self._queue.empty():
            submitted = self._queue.get()
            if submitted is None:
                self._queue.put(None)  # to be found again after this batch; nothing is queued behind it
                break
            jobs.extend(submitted)
        return jobs

    def _run_all(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        try:
            self._check()
            results = self._run_transaction(jobs)
        except OSError as error:
            return [_Outcome(job.future, error=StoreUnavailable(str(error))) for job in jobs]
        except Exception as error:  # noqa: BLE001  whatever a job raises belongs to its caller
            if len(jobs) > 1 and not _concerns_all(error):
                # Somebody in this batch is guilty: alone, each gets what is its own.
                return [outcome for job in jobs for outcome in self._run_all([job])]
            return [_Outcome(job.future, error=_for_caller(error)) for job in jobs]
        return [_Outcome(job.future, result) for job, result in zip(jobs, results, strict=True)]

    def _run_transaction(self, jobs: Sequence[_Job]) -> list[Any]:
        deadline = time.monotonic() + self._busy_timeout_seconds
        may_be_stale = self._connection is not None
        while True:
            try:
                return self._try_transaction(jobs)
            except DBAPIError as error:
                if error.connection_invalidated and may_be_stale:
                    may_be_stale = False  # the database was started again since: nothing is committed yet
                    continue
                if not is_contention(error) or time.monotonic() >= deadline:
                    raise
                if is_deadlock(error) and len(jobs) > 1:
                    raise _Entangled from error
                # Random, so that processes do not keep meeting.
                time.sleep(random.uniform(0.0001, 0.0005))  # noqa: S311

    def _try_transaction(self, jobs: Sequence[_Job]) -> list[Any]:
        try:
            connection = self._connect()
            transaction = connection.begin()
            try:
                if self._lock is not None and (locks := sorted({job.locks for job in jobs if job.locks})):
                    self._lock(connection, locks)
                batch = Batch(connection)
                results = [job.function(batch) for job in jobs]
                batch.finish()
                is_durable = self._take_along(connection) if self._take_along is not None else None
            except BaseException:
                with contextlib.suppress(SQLAlchemyError):  # of a session that is gone nothing is left to roll back
                    transaction.rollback()
                raise
            _commit(transaction.commit)
        except (DBAPIError, _CommitFailed) as error:
            if not isinstance(error, IntegrityError) and not (isinstance(error, DBAPIError) and is_contention(error)):
                self._drop_connection()  # whatever state it was left in, the next batch starts with a fresh one
            raise
        if is_durable is not None:
            is_durable()
        return results

    def _connect(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = self._engine.connect()
            except DBAPIError as error:
                if is_contention(error):
                    raise
                raise _NotConnected(describe(error)) from error
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None

    # -- on the loop -----------------------------------------------------------------------------------------------
    def _hand_over(self) -> None:
        # All that one turn of the loop submitted: waking the thread for the first would leave it alone in its batch.
        if self._submitted:
            self._queue.put(self._submitted)
            self._submitted = []

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        self._pending -= len(outcomes)
        for outcome in outcomes:
            if outcome.future.done():  # the caller was cancelled; the write stays
                continue
            if outcome.error is None:
                outcome.future.set_result(outcome.result)
            else:
                outcome.future.set_exception(outcome.error)


def _commit(commit: Callable[[], None]) -> None:
    try:
        commit()
    except SQLAlchemyError as error:
        raise _CommitFailed(describe(error)) from error


def _concerns_all(error: Exception) -> bool:
    """Whether the database is in trouble rather than one of the jobs."""
    if isinstance(error, DBAPIError):
        return concerns_all(error)
    return isinstance(error, (_CommitFailed, _NotConnected))


def _for_caller(error: Exception) -> Exception:
    if isinstance(error, SQLAlchemyError):
        unavailable = StoreUnavailable(f"the database did not answer: {describe(error)}")
    elif isinstance(error, _NotConnected):
        unavailable = StoreUnavailable(f"the database cannot be reached: {error}")
    elif isinstance(error, _CommitFailed):
        unavailable = StoreUnavailable(f"the database did not confirm: {error}")
    else:
        return error
    unavailable.__cause__ = error
    return unavailable
