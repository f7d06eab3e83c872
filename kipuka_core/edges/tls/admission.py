"""Whether a connection may go on after its handshake: the revocation status of the client's certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.edges.tls.scope import client_chain
from kipuka_core.errors import NotAuthenticated, StoreUnavailable, Unavailable


class PeerNotAdmitted(ssl.SSLCertVerificationError):
    """The client's certificate is revoked, or nobody knows.

    ``code`` is ``certificate_revoked`` or ``revocation_unknown``, as in the refusal of a request; the text says whose
    certificate it is, for the operator.
    """

    def __init__(self, text: str, *, code: str) -> None:
        super().__init__(text)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])  # SSLError would show the tuple of its arguments


def refuse_revoked(
    standing: CertificateStanding,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    timeout_seconds: float = 60.0,
) -> Callable[[Mapping[str, Any]], Awaitable[None]]:
    """What a listener in client_auth mode ``required`` awaits once per connection.

    It raises :class:`PeerNotAdmitted`. With ``timeout_seconds`` over the status is unknown.
    """

    async def admit(extensions: Mapping[str, Any]) -> None:
        now = clock()
        chain = client_chain(extensions, now)
        if not chain:
            return  # the handshake was over a moment before the certificate was; every request is refused
        who = f"the client certificate of {chain[0].subject.rfc4514_string()}"
        try:
            async with asyncio.timeout(timeout_seconds):
                await standing.check(chain, now)
        except NotAuthenticated as refusal:
            raise PeerNotAdmitted(f"{who} is revoked", code=refusal.code) from None
        except (Unavailable, TimeoutError):
            text = f"it cannot be found out whether {who} is revoked"
            raise PeerNotAdmitted(text, code="revocation_unknown") from None
        except StoreUnavailable:
            # Every request is checked again, and refused with an answer that says what is away.
            return

    return admit
