"""Several signer processes with one token: who is free signs, who is lost is replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kipuka_core import ConfigurationError, Unavailable
from kipuka_hsm.keys import TokenSignature
from kipuka_hsm.messages import Failure
from kipuka_hsm.process import ProcessGone, TokenFailed
from kipuka_hsm.session import KeyRef, OpenSession, Session

_LASTING = frozenset({Failure.REFUSED, Failure.UNUSABLE})
"""What another session would answer too."""
_FIRST_PAUSE_SECONDS = 0.1
_START_PAUSES_SECONDS = (0.1, 0.3)


class PoolEvent(StrEnum):
    """What an operator wants to hear of."""

    LOGGED_IN = "logged_in"
    LOST = "lost"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """How many of the wanted sessions are open, and the newest problem while some are not."""

    sessions: int
    open: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """``[hsm]``: processes, seconds for one call, and the longest pause between attempts to come back."""

    sessions: int = 4
    timeout_seconds: float = 5.0
    retry_seconds: float = 10.0


@dataclass(slots=True)
class Pool:
    """Used by any number of threads. ``report`` is called in one of the pool's own threads."""

    open_session: OpenSession
    limits: PoolLimits
    report: Callable[[PoolEvent, str], object] = lambda _event, _detail: None
    _idle: list[Session] = field(init=False, default_factory=list)
    _lost: int = field(init=False, default=0)
    _problem: str = field(init=False, default="")
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
        self.report(PoolEvent.LOGGED_IN, f"{first.token_name}, {len(self._all)} sessions")
        self._mender = threading.Thread(target=self._mend, name="hsm-mender", daemon=True)
        self._mender.start()
        return first

    def _open_first(self) -> Session:
        for pause_seconds in _START_PAUSES_SECONDS:
            try:
                return self.open_session()
            except TokenFailed as error:
                if error.kind not in {Failure.LOST, Failure.ABSENT}:
                    raise ConfigurationError("", str(error)) from None
                time.sleep(pause_seconds)  # another program is changing the token, perhaps
            except ProcessGone as error:
                raise ConfigurationError("", str(error)) from None
        try:
            return self.open_session()
        except (TokenFailed, ProcessGone) as error:
            raise ConfigurationError("", str(error)) from None

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
            self._mender.join()

    @property
    def health(self) -> PoolHealth:
        """As it is now."""
        with self._lock:
            return PoolHealth(self.limits.sessions, len(self._all), self._problem if self._lost else "")

    def sign(self, key: KeyRef, wanted: TokenSignature) -> bytes:
        """Have one of the processes sign; a second one where the first is lost over it.

        Raises Unavailable (503 with Retry-After).
        """
        signature: bytes = self._use(lambda session: session.sign(key, wanted), lasting=_LASTING)
        return signature

    def look(self, question: Callable[[Session], Any]) -> Any:
        """Ask something at start-up or by command. Raises TokenFailed, Unavailable."""
        return self._use(question, lasting=_LASTING | {Failure.ABSENT})

    def _use(self, work: Callable[[Session], Any], lasting: frozenset[Failure]) -> Any:
        problem = ""
        for _ in range(2):
            session = self._take()
            try:
                result = work(session)
            except ProcessGone as error:
                problem = str(error)
                self._lose(session, problem)
                continue
            except TokenFailed as error:
                if error.kind in lasting:
                    self._put(session)
                    raise
                problem = str(error)
                self._lose(session, problem)
                continue
            except BaseException:
                self._lose(session, "a call was interrupted")
                raise
            self._put(session)
            return result
        raise self._unavailable()

    def _take(self) -> Session:
        deadline = time.monotonic() + self.limits.timeout_seconds
        with self._lock:
            while not self._idle:
                rest = deadline - time.monotonic()
                if self._closed or rest <= 0 or (self._is_hopeless and not self._all):
                    raise self._unavailable()
                self._freed.wait(rest)
            return self._idle.pop()

    def _put(self, session: Session) -> None:
        with self._lock:
            if session in self._all:
                self._idle.append(session)
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
            self._all.discard(session)
            self._lost += 1
            was_well, self._problem = self._lost == 1, problem
            self._freed.notify_all()
            self._to_mend.notify()
        if was_well:
            self.report(PoolEvent.LOST, problem)

    def _unavailable(self) -> Unavailable:
        seconds = max(1, round(self.limits.retry_seconds))
        return Unavailable(
            "the CA's key cannot be used now; repeat the request later",
            retry_after_seconds=seconds,
            code="hsm_unavailable",
        )

    def _open_others(self, count: int) -> None:
        if count <= 0:
            return
        with ThreadPoolExecutor(count, "hsm-open") as threads:
            for future in [threads.submit(self.open_session) for _ in range(count)]:
                try:
                    self._add(future.result())
                except (TokenFailed, ProcessGone, ConfigurationError) as error:
                    with self._lock:
                        self._lost += 1
                        self._problem = str(error)

    def _mend(self) -> None:
        """In a thread of its own: replace what is lost, with growing pauses while that fails or does not last."""
        pause_seconds, opened_at = 0.0, float("-inf")
        while self._await_loss(pause_seconds):
            try:
                session = self.open_session()
            except (TokenFailed, ProcessGone, ConfigurationError) as error:
                self._note_failure(str(error))
            else:
                if time.monotonic() - opened_at > self.limits.retry_seconds:
                    pause_seconds = 0.0
                opened_at = time.monotonic()
                self._regain(session)
            pause_seconds = min(max(_FIRST_PAUSE_SECONDS, pause_seconds * 2), self.limits.retry_seconds)

    def _await_loss(self, pause_seconds: float) -> bool:
        """Wait until something is lost, and then for a while; False when the pool is closed."""
        with self._lock:
            while not self._lost and not self._closed:
                self._to_mend.wait()
            self._wait_for(pause_seconds)
            return not self._closed

    def _regain(self, session: Session) -> None:
        with self._lock:
            self._lost -= 1
            self._is_hopeless = False
            is_well = self._lost == 0
        self._add(session)
        if is_well:
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
