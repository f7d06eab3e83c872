"""Audit facts of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from kipuka_core import Event
from kipuka_hsm.pool import PoolEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmLoggedIn(Event):
    """A process of the server opened its sessions with a token."""

    name: ClassVar[str] = "hsm_logged_in"

    hsm: str
    """The token, by label and serial; a field called ``token`` no log would show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmLost(Event):
    """A session with a token was lost (``reason``); told once until all sessions are back."""

    name: ClassVar[str] = "hsm_lost"

    hsm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmRecovered(Event):
    """All sessions with a token are open again."""

    name: ClassVar[str] = "hsm_recovered"

    hsm: str


def logged_in(token: str, detail: str, now: datetime) -> Event:
    """The audit fact of a start; ``detail`` says with how many sessions."""
    return HsmLoggedIn(time=now, hsm=token, reason=detail)


def announcement(event: PoolEvent, token: str, detail: str, now: datetime) -> Event:
    """The audit fact of what happened to a pool."""
    if event is PoolEvent.LOST:
        return HsmLost(time=now, hsm=token, reason=detail)
    return HsmRecovered(time=now, hsm=token)
