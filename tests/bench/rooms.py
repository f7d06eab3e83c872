"""From functions to rooms: whose time a profile's time is.

A property of a certificate or request is no call that cProfile sees: what it costs counts for the room that reads it.
"""

from __future__ import annotations

import pstats
from collections import Counter
from collections.abc import Mapping
from typing import Any

Function = tuple[str, int, str]
"""As in pstats: file, line, name; the file of a built-in function is ``~``."""

_ROOMS: tuple[tuple[str, str], ...] = (
    ("kipuka_core/edges/http", "edges/http"),
    ("kipuka_core/edges/store", "store"),
    ("kipuka_core/edges/events", "events and log"),
    ("kipuka_core/edges/log", "events and log"),
    ("kipuka_core/model/event", "events and log"),
    ("kipuka_builtin/jsonl_sink", "events and log"),
    ("structlog/", "events and log"),
    ("kipuka_core/edges/tls", "edges/tls"),
    ("kipuka_core/edges/serving", "HTTP: edges/serving, hypercorn, h11"),
    ("hypercorn/", "HTTP: edges/serving, hypercorn, h11"),
    ("h11/", "HTTP: edges/serving, hypercorn, h11"),
    ("kipuka_core/domain", "domain"),
    ("kipuka_core/model", "model"),
    ("kipuka_core/wire", "wire"),
    ("kipuka_builtin/", "plugins"),
    ("sqlalchemy/", "store"),
    ("asyncio/", "event loop and TLS"),
    ("anyio/", "event loop and TLS"),
    ("/ssl.py", "event loop and TLS"),
    ("cryptography/", "cryptography"),
)
_BUILT_IN_ROOMS: tuple[tuple[str, str], ...] = (
    ("cryptography", "cryptography"),
    ("_rust.", "cryptography"),
    ("pkcs7.", "cryptography"),
    ("'_ssl.", "event loop and TLS"),
    ("run_until_complete", "event loop and TLS"),
    ("uvloop", "event loop and TLS"),
)
_ELSEWHERE = "the rest"


def room_of(function: Function) -> str | None:
    """The room that a function belongs to; None for one that works for whoever calls it (the standard library)."""
    file, _, name = function
    if file == "~":
        return next((room for part, room in _BUILT_IN_ROOMS if part in name), None)
    path = file.replace("\\", "/")
    return next((room for part, room in _ROOMS if part in path), None)


class _Attribution:
    """Spreads the time of roomless functions over the rooms of their callers, in proportion to the time for each."""

    def __init__(self, stats: Mapping[Function, Any]) -> None:
        self._stats = stats
        self._known: dict[Function, dict[str, float]] = {}

    def rooms(self, function: Function) -> dict[str, float]:
        """Fractions that add up to 1."""
        if function not in self._known:
            room = room_of(function)
            self._known[function] = {room or _ELSEWHERE: 1.0}  # also what a function that calls itself finds
            if room is None:
                self._known[function] = self._of_callers(function)
        return self._known[function]

    def _of_callers(self, function: Function) -> dict[str, float]:
        callers = self._stats[function][4] if function in self._stats else {}
        total = sum(edge[3] for edge in callers.values())
        if not total:
            return {_ELSEWHERE: 1.0}
        found: dict[str, float] = {}
        for caller, edge in callers.items():
            for room, fraction in self.rooms(caller).items():
                found[room] = found.get(room, 0.0) + fraction * edge[3] / total
        return found


def shares(stats: pstats.Stats) -> Counter[str]:
    """Microseconds of self time by room."""
    by_function: Mapping[Function, Any] = stats.stats  # type: ignore[attr-defined]  # its stub lacks it
    attribution = _Attribution(by_function)
    seconds: dict[str, float] = {}
    for function, (_, _, own_seconds, _, _) in by_function.items():
        for room, fraction in attribution.rooms(function).items():
            seconds[room] = seconds.get(room, 0.0) + own_seconds * fraction
    return Counter({room: round(1e6 * spent) for room, spent in seconds.items()})
