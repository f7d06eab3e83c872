"""Sessions of administrators who signed in with a bearer token: in memory, short, and without the token."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from kipuka_core.model.administrator import Administrator

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 8 * 3600
_MOST_SESSIONS = 1000


@dataclass(slots=True)
class _Session:
    administrator: Administrator
    began_at: float
    used_at: float


class Sessions:
    """Who is signed in, by the SHA-256 of the cookie. A restart ends all of them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def begin(self, administrator: Administrator) -> str:
        """A new session; what its cookie holds. More than a thousand: the one that was not used longest ends."""
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        self._sessions[_key(cookie)] = _Session(administrator, now, now)
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return cookie

    def administrator(self, cookie: str) -> Administrator | None:
        """Whose session it is, which goes on by that; None: nobody's, or it has ended."""
        key, now = _key(cookie), self._clock()
        session = self._sessions.get(key)
        if session is None:
            return None
        if now - session.used_at >= IDLE_SECONDS or now - session.began_at >= LONGEST_SECONDS:
            del self._sessions[key]
            return None
        session.used_at = now
        self._sessions.move_to_end(key)
        return session.administrator

    def end(self, cookie: str) -> None:
        """Sign out."""
        self._sessions.pop(_key(cookie), None)


def _key(cookie: str) -> bytes:
    return sha256(cookie.encode("utf-8", "surrogatepass")).digest()
