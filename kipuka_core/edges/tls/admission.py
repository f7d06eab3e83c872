"""Whether a connection may go on after its handshake: the revocation status of the client's certificate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kipuka_core.domain.standing import CertificateStanding


def refuse_revoked(
    standing: CertificateStanding,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    timeout_seconds: float = 30.0,
) -> Callable[[Mapping[str, Any]], Awaitable[None]]:
    """What a listener in client_auth mode ``required`` awaits once per connection."""

    async def admit(extensions: Mapping[str, Any]) -> None:
        raise NotImplementedError

    return admit
