"""Failed handshakes as audit events: each cause of each client once at once, its repetitions gathered by the minute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kipuka_core.edges.serving.handshake import FailedHandshake
from kipuka_core.model.event import Event


class HandshakeReports:
    """Turns failed handshakes into few events, whatever their number."""

    def __init__(self, emit: Callable[[Event], Awaitable[None]], listener: str = "est") -> None:
        self._emit = emit
        self._listener = listener

    def report(self, failed: FailedHandshake) -> None:
        """Count a failed handshake; never blocks, never raises."""

    async def run(self) -> None:
        """Emit what is reported until cancelled, then what is pending."""
        await asyncio.Event().wait()
