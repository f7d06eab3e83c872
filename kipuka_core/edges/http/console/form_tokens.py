"""Tokens that say that a form comes from a page that this browser got from here."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.edges.http.admin_gate import AdminGate
from kipuka_core.edges.http.messages import Scope


class FormTokens:
    """One for each browser and credential; nothing of it is kept.

    A token is bound to a random cookie and to what a browser adds to a request by itself: the session's cookie, or else
    the client certificate. Another site knows neither cookie, and one that could set a cookie does not know the key.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)  # of this process: no form outlives a restart

    def token(self, gate: AdminGate, scope: Scope, *, browser: str, session: str) -> str:
        """For the forms of a page; ``browser`` and ``session`` are the values of the two cookies."""
        chain = () if session else gate.client_chain(scope)
        bound = chain[0].public_bytes(Encoding.DER) if chain else session.encode("utf-8", "surrogatepass")
        parts = (browser.encode("utf-8", "surrogatepass"), b"session" if session else b"certificate", bound)
        said = b"".join(sha256(part).digest() for part in parts)
        return hmac.new(self._key, said, sha256).hexdigest()

    @staticmethod
    def new_browser() -> str:
        """The value of a browser's cookie."""
        return secrets.token_urlsafe(24)


def is_same(token: str, wanted: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), wanted.encode())
