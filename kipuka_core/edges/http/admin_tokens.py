"""The tokens (HSMs) on the health pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kipuka_core.domain.ports import TokenHealth
from kipuka_core.edges.log import redact_text
from kipuka_core.model.health import HealthStatus


def tokens_status(tokens: Sequence[TokenHealth]) -> HealthStatus:
    """Degraded: some sessions are away. Unhealthy: a token has none left."""
    if any(token.sessions_open == 0 for token in tokens):
        return HealthStatus.UNHEALTHY
    return HealthStatus.DEGRADED if any(token.problem for token in tokens) else HealthStatus.HEALTHY


def tokens_body(tokens: Sequence[TokenHealth]) -> dict[str, Any] | None:
    """What the pages say, None for a server without tokens. The sessions are those of the process that answers."""
    if not tokens:
        return None
    return {
        "status": tokens_status(tokens),
        "tokens": [
            {
                "name": token.name,
                "status": tokens_status((token,)),
                "sessions": token.sessions,
                "sessions_open": token.sessions_open,
                "detail": redact_text(token.problem),
            }
            for token in tokens
        ],
    }
