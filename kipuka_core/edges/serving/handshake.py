"""Why a TLS handshake failed, in words that an operator can act on."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum


class HandshakeCause(StrEnum):
    """What went wrong, as a stable word for log and counters."""

    PLAIN_HTTP = "plain_http"
    PROTOCOL_VERSION = "protocol_version"
    NO_SHARED_CIPHER = "no_shared_cipher"
    NO_CLIENT_CERTIFICATE = "no_client_certificate"
    CLIENT_CERTIFICATE_REJECTED = "client_certificate_rejected"
    SERVER_CERTIFICATE_REJECTED = "server_certificate_rejected"
    TIMED_OUT = "timed_out"
    CLIENT_CLOSED = "client_closed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FailedHandshake:
    """A connection that never became one: the client's address, the cause, and what OpenSSL said."""

    address: str
    cause: HandshakeCause
    detail: str


HandshakeFailed = FailedHandshake  # the former name, until nobody uses it


_BY_REASON = {
    "HTTP_REQUEST": HandshakeCause.PLAIN_HTTP,
    "UNSUPPORTED_PROTOCOL": HandshakeCause.PROTOCOL_VERSION,
    "VERSION_TOO_LOW": HandshakeCause.PROTOCOL_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": HandshakeCause.PROTOCOL_VERSION,
    "NO_SHARED_CIPHER": HandshakeCause.NO_SHARED_CIPHER,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": HandshakeCause.NO_CLIENT_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": HandshakeCause.CLIENT_CERTIFICATE_REJECTED,
    "TLSV1_ALERT_UNKNOWN_CA": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_BAD_CERTIFICATE": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "UNEXPECTED_EOF_WHILE_READING": HandshakeCause.CLIENT_CLOSED,
}


def classify(address: str, error: Exception) -> FailedHandshake:
    """The cause behind what ``connect_accepted_socket`` raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = getattr(error, "verify_message", None) or str(error)
        return FailedHandshake(address, HandshakeCause.CLIENT_CERTIFICATE_REJECTED, detail)
    if isinstance(error, ssl.SSLEOFError):
        return FailedHandshake(address, HandshakeCause.CLIENT_CLOSED, "the client closed during the handshake")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return FailedHandshake(address, _BY_REASON.get(reason, HandshakeCause.OTHER), reason)
    # asyncio and uvloop raise ConnectionAbortedError for their own time-out; a client's abort is ECONNRESET.
    if isinstance(error, TimeoutError | ConnectionAbortedError) and error.errno is None:
        return FailedHandshake(address, HandshakeCause.TIMED_OUT, "the client did not finish the handshake in time")
    if isinstance(error, ConnectionError | EOFError):
        return FailedHandshake(address, HandshakeCause.CLIENT_CLOSED, "the client closed during the handshake")
    return FailedHandshake(address, HandshakeCause.OTHER, str(error) or type(error).__name__)
