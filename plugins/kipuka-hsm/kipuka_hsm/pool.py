"""The sessions of one token: taken for one call, given back, replaced when they are lost.

Everything here is plain threads: a signature is asked for in a worker thread and waits there, as for any blocking key.
A session that is lost is replaced in the background, again and again while the token is away, so that service comes
back by itself; meanwhile calls are answered by the sessions that are left, or with Unavailable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kipuka_core import ConfigurationError, Unavailable
from kipuka_hsm.login import LoginGivenUp
from kipuka_hsm.messages import Failure, TokenSignature
from kipuka_hsm.process import ProcessGone, TokenFailed
from kipuka_hsm.session import KeyRef, OpenSession, Session

_LASTING = frozenset({Failure.REFUSED, Failure.UNUSABLE})
"""What another session would answer too."""
_FIRST_PAUSE_SECONDS = 0.1
_START_PAUSES_SECONDS = (0.1, 0.3)
_TRIES = 2


class PoolEvent(StrEnum):
    """What an operator wants to hear of."""

    LOST = "lost"
    RECOVERED = "recovered"


class TokenUnavailable(Unavailable):
    """A token that cannot be used now. ``detail`` is for the log and the operator; the client learns nothing of it."""

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(
            "the CA's key cannot be used now; repeat the request later",
            retry_after_seconds=retry_after_seconds,
            code="hsm_unavailable",
        )
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """How many of the wanted sessions are open, and the newest problem while some are not."""

    sessions: int
    open: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Processes, and seconds: for one call, for all that one signature needs, between attempts to come back."""

    sessions: int = 4
    timeout_seconds: float = 5.0
    budget_seconds: float = 9.0
    retry_seconds: float = 10.0


@dataclass(slots=True)
class Pool:
    """Used by any number of threads. ``report`` is called in one of the pool's own threads or in one that signs."""

    open_session: OpenSession
    limits: PoolLimits
    report: Callable[[PoolEvent, str], object] = lambda _event, _detail: None
    _idle: list[Session] = field(init=False, default_factory=list)
    _waiting: int = field(init=False, default=0)
    """How many signatures wait for a session."""
    _lost: int = field(init=False, default=0)
    """How many sessions are to be opened again."""
    _losses: int = field(init=False, default=0)
    """How many were lost so far."""
    _problem: str = field(init=False, default="")
    _is_told: bool = field(init=False, default=False)
    """Whether the loss was reported."""
    _is_hopeless: bool = field(init=False, default=False)
    """Whether the last attempt to come back failed, so that waiting for it is pointless."""
    _closed: bool = field(init=False, default=False)
    _all: set[Session] = field(init=False, default_factory=set)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _freed: threading.Condition = field(init=False)
    """A session is idle, or waiting for one has become pointless."""
    _to_mend: threading.Condition = field(init=False)
    """A session was lost. Apart from the other, so that no signature wakes the mender."""
    _mender: threading.Thread | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._freed, self._to_mend = threading.Condition(self._lock), threading.Condition(self._lock)

    def open(self) -> Session:
        """Open every session: the first one alone, for a wrong PIN counts, then the others at once.

        Returns one of them, to ask what the token is; it belongs to the pool. Raises ConfigurationError.
        """
        first = self._open_first()
        self._add(first)
        self._open_others(self.limits.sessions - 1)
        self._mender = threading.Thread(target=self._mend, name="hsm-mender", daemon=True)
        self._mender.start()
        return first

    def tell_short_start(self) -> None:
        """Report what is missing since the start, once it is known what the token is called."""
        self._tell_loss()

    def close(self) -> None:
        """End every process."""
        with self._lock:
            self._closed = True
            sessions, self._idle = list(self._all), []
            self._all.clear()
            self._freed.notify_all()
            self._to_mend.notify_all()
        for session in sessions:
            session.close()
        if self._mender is not None:
            # A session that it is opening just now is closed by itself as soon as it is there.
            self._mender.join(self.limits.timeout_seconds)

    @property
    def health(self) -> PoolHealth:
        """As it is now."""
        self._drop_dead()
        with self._lock:
            return PoolHealth(self.limits.sessions, len(self._all), self._problem if self._lost else "")

    def sign(self, key: KeyRef, wanted: TokenSignature, deadline: float | None = None) -> bytes:
        """Have one of the processes sign; a second one where the first is lost over it.

        ``deadline`` (of :func:`time.monotonic`) shortens the usual budget. Raises TokenUnavailable (503 with
        Retry-After), TokenFailed for what the token does not do.
        """

        def work(session: Session, rest_seconds: float) -> bytes:
            return session.sign(key, wanted, rest_seconds)

        signature: bytes = self._use(work, _LASTING, deadline)
        return signature

    def look(self, question: Callable[[Session], Any]) -> Any:
        """Ask something at start-up or by command. Raises TokenFailed, TokenUnavailable."""
        return self._use(lambda session, _: question(session), _LASTING | {Failure.ABSENT}, None)

    def _use(self, work: Callable[[Session, float], Any], lasting: frozenset[Failure], deadline: float | None) -> Any:
        until = time.monotonic() + self.limits.budget_seconds
        until = until if deadline is None else min(until, deadline)
        tries = 0
        while tries < _TRIES:
            session = self._take(until)
            tries += 1
            try:
                result = work(session, until - time.monotonic())
            except ProcessGone as error:
                self._lose(session, str(error))
                tries -= not error.was_asked  # it had ended before, while nobody looked
                continue
            except TokenFailed as error:
                if error.kind in lasting:
                    self._put(session)
                    raise
                self._lose(session, str(error))
                if error.kind is Failure.LOST:
                    self._lose_idle(str(error))  # which the token has closed too, perhaps, so that each would fail
                continue
            except BaseException:
                self._lose(session, "a call was interrupted")
                raise
            self._put(session)
            return result
        raise self._unavailable()

    # -- sessions --------------------------------------------------------------------------------------------------
    def _open_first(self) -> Session:
        for pause_seconds in _START_PAUSES_SECONDS:
            try:
                return self._opened()
            except TokenFailed as error:
                if error.kind not in {Failure.LOST, Failure.ABSENT}:
                    raise ConfigurationError("", str(error)) from None
                time.sleep(pause_seconds)  # another program is changing the token, perhaps
            except ProcessGone as error:
                raise ConfigurationError("", str(error)) from None
        try:
            return self._opened()
        except (TokenFailed, ProcessGone) as error:
            raise ConfigurationError("", str(error)) from None

    def _open_others(self, count: int) -> None:
        if count <= 0:
            return
        with ThreadPoolExecutor(count, "hsm-open") as threads:
            for future in [threads.submit(self._opened) for _ in range(count)]:
                try:
                    self._add(future.result())
                except Exception as error:  # noqa: BLE001  # whatever it is, this one is not open
                    with self._lock:
                        self._lost += 1
                        self._problem = _problem(error)

    def _opened(self) -> Session:
        return self.open_session(lambda: self._closed)

    def _take(self, until: float) -> Session:
        with self._lock:
            while not self._idle:
                rest = until - time.monotonic()
                if self._closed or rest <= 0 or (self._is_hopeless and not self._all):
                    raise self._unavailable()
                self._waiting += 1
                self._freed.wait(rest)
                self._waiting -= 1
            return self._idle.pop()

    def _put(self, session: Session) -> None:
        with self._lock:
            if session in self._all:
                self._idle.append(session)
                if self._waiting:
                    self._freed.notify()
                return
        session.close()  # the pool was closed meanwhile

    def _add(self, session: Session) -> None:
        with self._lock:
            if not self._closed:
                self._all.add(session)
                self._idle.append(session)
                self._freed.notify()
                return
        session.close()

    def _lose(self, session: Session, problem: str) -> None:
        session.close()
        with self._lock:
            if session not in self._all:
                return
            self._count_lost([session], problem)
        self._tell_loss()

    def _count_lost(self, sessions: Sequence[Session], problem: str) -> None:
        """While the lock is held."""
        self._all.difference_update(sessions)
        self._lost += len(sessions)
        self._losses += len(sessions)
        self._problem = problem
        self._freed.notify_all()
        self._to_mend.notify()

    def _lose_idle(self, problem: str) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            self._lose(session, problem)

    def _drop_dead(self) -> None:
        with self._lock:
            dead = [session for session in self._idle if session.is_gone]
            if not dead:
                return
            # Counted at once: no session is neither idle nor lost, which would look as if all were well.
            self._idle = [session for session in self._idle if session not in dead]
            self._count_lost(dead, "a signer process has ended")
        for session in dead:
            session.close()
        self._tell_loss()

    def _tell_loss(self) -> None:
        with self._lock:
            if self._is_told or not self._lost or self._closed:
                return
            self._is_told = True
            problem = self._problem
        self.report(PoolEvent.LOST, problem)

    def _unavailable(self) -> TokenUnavailable:
        detail = self._problem if self._lost else "all sessions of the token are busy"
        return TokenUnavailable(detail, max(1, round(self.limits.retry_seconds)))

    # -- the mender ------------------------------------------------------------------------------------------------
    def _mend(self) -> None:
        """In a thread of its own: replace what is lost, with growing pauses while that fails or does not last."""
        pause_seconds, opened_at, losses = 0.0, float("-inf"), 0
        while self._await_loss(pause_seconds):
            try:
                session = self._opened()
            except LoginGivenUp:
                return
            except Exception as error:  # noqa: BLE001  # whatever it is (no file descriptors, …): it may pass
                self._note_failure(_problem(error))
                pause_seconds = self._longer(pause_seconds)
                continue
            # Others may be waiting to be opened since before; only one that is lost right after is a reason to wait.
            lasts = self._losses == losses or time.monotonic() - opened_at > self.limits.retry_seconds
            pause_seconds = 0.0 if lasts else self._longer(pause_seconds)
            opened_at, losses = time.monotonic(), self._losses
            self._regain(session)

    def _longer(self, pause_seconds: float) -> float:
        return min(max(_FIRST_PAUSE_SECONDS, pause_seconds * 2), self.limits.retry_seconds)

    def _await_loss(self, pause_seconds: float) -> bool:
        """Wait until something is lost, and then for a while; False when the pool is closed."""
        while True:
            with self._lock:
                if not self._lost and not self._closed:
                    self._to_mend.wait(self.limits.retry_seconds)
                if self._lost or self._closed:
                    self._wait_for(pause_seconds)
                    return not self._closed
            self._drop_dead()

    def _regain(self, session: Session) -> None:
        with self._lock:
            self._lost -= 1
            self._is_hopeless = False
            is_well = self._lost == 0
            was_told = self._is_told
            if is_well:
                self._is_told = False
        self._add(session)
        if is_well and was_told:
            self.report(PoolEvent.RECOVERED, session.token_name)

    def _wait_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._closed and (rest := deadline - time.monotonic()) > 0:
            self._to_mend.wait(rest)

    def _note_failure(self, problem: str) -> None:
        with self._lock:
            self._problem = problem
            self._is_hopeless = True
            self._freed.notify_all()


def _problem(error: Exception) -> str:
    """What an operator is told; nothing of an unexpected error but its kind, whose text may hold anything."""
    if isinstance(error, TokenFailed | ProcessGone | ConfigurationError):
        return str(error)
    reason = error.strerror if isinstance(error, OSError) else ""
    return f"{type(error).__name__}{f': {reason}' if reason else ''}"
