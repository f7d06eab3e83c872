"""Kept connections after a reload: their client certificates are verified again against what is trusted now.

A connection outlives the context that its handshake used. What that handshake verified counts for as long as the
listener still uses that very context; after a change every connection is looked at once more, before its next request
(invariant 9). The same holds for a handshake that a reload has overtaken.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kipuka_core.edges.tls.peer import PeerReader
from kipuka_core.edges.tls.scope import TLS, peer_extensions

Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Any, Any], Awaitable[None]]

VERIFIED_BY = "kipuka.verified_by"


class _Verified:
    """Under which context the client certificate of a connection was verified last."""

    __slots__ = ("by",)

    def __init__(self, by: ssl.SSLContext) -> None:
        self.by = by


class KeptPeers:
    """What a listener's connections say of their clients, kept true through changes of its context.

    ``context`` is asked for the listener's present one; ``reader`` has the anchors that belong to it.
    """

    def __init__(self, reader: PeerReader, context: Callable[[], ssl.SSLContext]) -> None:
        self._reader = reader
        self._context = context

    def describe(self, ssl_object: ssl.SSLObject) -> dict[str, Any]:
        """The scope extensions of a new connection; raises :class:`~.peer.PeerRefused` as the reader does."""
        return {**peer_extensions(self._reader.read(ssl_object)), VERIFIED_BY: _Verified(ssl_object.context)}

    def guard(self, app: AsgiApp) -> AsgiApp:
        """Wrap the listener's app."""

        def call(scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
            verified = scope["extensions"].get(VERIFIED_BY)
            if verified is not None and verified.by is not self._context():
                # The dictionary belongs to the connection, so this is done once and for all of its further requests.
                context = self._context()
                self._verify_again(scope["extensions"][TLS])
                verified.by = context
            return app(scope, receive, send)

        return call

    def _verify_again(self, tls: dict[str, Any]) -> None:
        if not tls["client_cert_chain"]:
            return
        chain_der = tuple(ssl.PEM_cert_to_DER_cert(pem) for pem in tls["client_cert_chain"])
        chain_der, error = self._reader.verify_again(chain_der)
        tls["client_cert_chain"] = [ssl.DER_cert_to_PEM_cert(der) for der in chain_der]
        tls["client_cert_error"] = error
        if error is not None:
            tls["client_cert_name"] = None
