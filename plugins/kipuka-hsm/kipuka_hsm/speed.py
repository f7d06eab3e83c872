"""How many signatures a token makes: the bare token, without a server."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from kipuka_hsm.messages import TokenSignature
from kipuka_hsm.session import KeyRef, Session, SessionOpener


def signatures_per_second(
    opener: SessionOpener, key: KeyRef, wanted: TokenSignature, sessions: int, seconds: float
) -> float:
    """With so many sessions at once, each in a process of its own. Raises TokenFailed, ProcessGone."""
    opened = [opener()]
    try:
        with ThreadPoolExecutor(sessions) as threads:
            _open_others(opener, sessions - 1, threads, opened)
            for session in opened:
                session.sign(key, wanted)
            began = time.perf_counter()
            counts = [threads.submit(_count, session, key, wanted, began + seconds) for session in opened]
            made = sum(future.result() for future in counts)
            return made / (time.perf_counter() - began)
    finally:
        for session in opened:
            session.close()


def _open_others(opener: SessionOpener, count: int, threads: ThreadPoolExecutor, opened: list[Session]) -> None:
    """At once. Those that there are are in ``opened`` also where another one fails; raises what that one did."""
    failures = []
    for future in [threads.submit(opener) for _ in range(count)]:
        if (error := future.exception()) is None:
            opened.append(future.result())
        else:
            failures.append(error)
    if failures:
        raise failures[0]


def _count(session: Session, key: KeyRef, wanted: TokenSignature, until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        session.sign(key, wanted)
        count += 1
    return count
