"""The client's certificate in the ASGI scope: written by the edge, read by the application.

The standard ``tls`` extension of ASGI, and beside it ``kipuka.channel_binding``, a function. The dictionaries are made
once per connection and shared by its requests.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from cryptography import x509

from kipuka_core.edges.serving.sockets import normal_address
from kipuka_core.edges.tls.ciphers import cipher_suite_number
from kipuka_core.edges.tls.peer import Peer, PeerReader
from kipuka_core.errors import CsrRefused
from kipuka_core.model.request import Connection

TLS = "tls"
CHANNEL_BINDING = "kipuka.channel_binding"

_VERSION_NUMBERS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_VERSION_NAMES = {number: name for name, number in _VERSION_NUMBERS.items()}


def peer_extensions(peer: Peer, server_certificate_pem: str | None = None) -> dict[str, Any]:
    """The extensions of every request of one connection, for ``scope["extensions"]``."""
    chain = [_pem(der) for der in peer.chain_der]
    return {
        TLS: {
            "server_cert": server_certificate_pem,
            "client_cert_chain": chain,
            "client_cert_name": _certificate(chain[0]).subject.rfc4514_string() if chain else None,
            "client_cert_error": peer.chain_error,
            "tls_version": _VERSION_NUMBERS.get(peer.tls_version),
            "cipher_suite": cipher_suite_number(peer.cipher),
        },
        CHANNEL_BINDING: peer.channel_binding,
    }


def describe_with(
    reader: PeerReader, server_certificate_pem: str | None = None
) -> Callable[[ssl.SSLObject], dict[str, Any]]:
    """What a listener calls once per connection; raises :class:`~.peer.PeerRefused` as the reader does."""
    return lambda ssl_object: peer_extensions(reader.read(ssl_object), server_certificate_pem)


def connection_from_scope(scope: Mapping[str, Any], now: datetime) -> Connection | None:
    """The connection of a request, None when it did not come by TLS 1.2 or later.

    Every request passes here: a client certificate that is not valid ``now`` (aware), or one above it that is not,
    counts no more, although its connection was opened while they were.
    """
    extensions = scope.get("extensions") or {}
    tls = extensions.get(TLS)
    version = _VERSION_NAMES.get(tls["tls_version"]) if tls else None
    if tls is None or version is None:
        return None
    client = scope.get("client")
    return Connection(
        source_address=normal_address(client[0]) if client else "",
        tls_version=version,
        client_chain=client_chain(extensions, now),
        channel_binding=extensions.get(CHANNEL_BINDING, _no_channel_binding),
        http_version=scope["http_version"],
        user_agent=_user_agent(scope["headers"]),
    )


def client_chain(extensions: Mapping[str, Any], now: datetime) -> tuple[x509.Certificate, ...]:
    """The verified chain of a connection's client, leaf first; empty without one that counts ``now`` (aware)."""
    tls = extensions.get(TLS) or {}
    if tls.get("client_cert_error"):
        return ()
    chain = tuple(_certificate(pem) for pem in tls.get("client_cert_chain") or ())
    in_time = all(each.not_valid_before_utc <= now <= each.not_valid_after_utc for each in chain)
    return chain if in_time else ()


def _no_channel_binding() -> bytes:
    raise CsrRefused("this connection has no channel binding value", code="channel_binding_unavailable")


def _user_agent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"user-agent":
            return value.decode("latin-1")
    return None


@lru_cache(maxsize=4096)
def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode("ascii"))


@lru_cache(maxsize=4096)
def _pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der)
