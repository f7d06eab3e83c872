"""Sources that give no usable answer: the error, and a log that says it once and not per request."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kipuka_core.edges.log import get_logger
from kipuka_core.edges.revocation.memory import Memory

log = get_logger()

RETRY_SECONDS = 5.0
"""How long a failure is remembered: a dead source must not stall every request, and one that is back is seen soon."""
_ANOTHER_PROBLEM_SECONDS = 60.0
_SAME_PROBLEM_SECONDS = 600.0


_USER_INFO = re.compile(r"(?<=://)[^/?#]*@")


def shown_url(url: str) -> str:
    """A URL for logs and errors: without user name and password."""
    return _USER_INFO.sub("", url)


def clock_from(now: datetime) -> Callable[[], datetime]:
    """A clock that shows ``now`` at this moment. Failures are remembered from their end: they can take long."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)


class SourceFailed(Exception):
    """A file, URL or responder gave nothing that can be used; the text is one line that says which and why.

    ``is_away``: it could not be reached or was too slow, so asking it about another certificate is pointless now.
    ``is_ours``: this server is too busy to use it, which says nothing about the source.
    """

    def __init__(self, source: str, problem: str, *, is_away: bool = False, is_ours: bool = False) -> None:
        super().__init__(f"{source} {problem}")
        self.source = source
        self.problem = problem
        self.is_away = is_away
        self.is_ours = is_ours


@dataclass(frozen=True, slots=True)
class _Complaint:
    problem: str
    monotonic_seconds: float


class Complaints:
    """Logs problems of sources: at most one line a minute for each, the same one only every ten minutes."""

    def __init__(self) -> None:
        self._last: Memory[str, _Complaint] = Memory(1000)

    def about(self, source: str, problem: str, *, event: str = "revocation source failed") -> None:
        """Log that ``source`` cannot be used now."""
        now, last = time.monotonic(), self._last.get(source)
        if last is not None:
            quiet = _SAME_PROBLEM_SECONDS if last.problem == problem else _ANOTHER_PROBLEM_SECONDS
            if now - last.monotonic_seconds < quiet:
                return
        self._last.put(source, _Complaint(problem, now))
        log.warning(event, source=source, problem=problem)

    def settled(self, source: str) -> None:
        """Log that ``source`` can be used again, where a problem was logged."""
        if self._last.get(source) is not None:
            self._last.drop(source)
            log.info("revocation source works again", source=source)
