"""Why a connection failed before its first request, in words that an operator can act on.

What OpenSSL, asyncio and uvloop raise was tried out on both loops with TLS 1.2 and 1.3: a client certificate is judged
within the server's handshake, by a verify code; what a client dislikes arrives as an alert, by a reason.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from enum import StrEnum


class HandshakeCause(StrEnum):
    """What went wrong, as a stable word for events and counters."""

    NO_SHARED_CIPHER = "no_shared_cipher"
    PROTOCOL_VERSION = "protocol_version"
    UNKNOWN_CA = "unknown_ca"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    CERTIFICATE_REVOKED = "certificate_revoked"
    REVOCATION_UNKNOWN = "revocation_unknown"
    CLIENT_CERTIFICATE_REJECTED = "client_certificate_rejected"
    NO_CLIENT_CERTIFICATE = "no_client_certificate"
    SERVER_CERTIFICATE_REJECTED = "server_certificate_rejected"
    PLAIN_HTTP = "plain_http"
    NOT_TLS = "not_tls"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    CLIENT_CLOSED = "client_closed"
    PROXY_HEADER_MISSING = "proxy_header_missing"
    PROXY_HEADER_MALFORMED = "proxy_header_malformed"
    PROXY_HEADER_NOT_ALLOWED = "proxy_header_not_allowed"
    OTHER = "other"

    @property
    def meaning(self) -> str:
        """What happened and what to do, in a sentence for the operator."""
        return _MEANINGS[self]


_MEANINGS = {
    HandshakeCause.NO_SHARED_CIPHER: (
        "client and server have no cipher suite, group or signature algorithm in common: compare [tls] cipher_suites, "
        "and the type of the server's key, with what the client offers"
    ),
    HandshakeCause.PROTOCOL_VERSION: (
        "the client speaks no TLS version that is served: update it, or allow TLS 1.2 with [tls] min_version"
    ),
    HandshakeCause.UNKNOWN_CA: (
        "the client's certificate does not lead to a trust anchor: add its issuer to trust_anchors, or have the client "
        "send its intermediates"
    ),
    HandshakeCause.CERTIFICATE_EXPIRED: (
        "the client's certificate, or one above it, has expired: let the client enrol anew, without that certificate"
    ),
    HandshakeCause.CERTIFICATE_NOT_YET_VALID: (
        "the client's certificate, or one above it, is not valid yet: compare this server's clock with its issuer's"
    ),
    HandshakeCause.CERTIFICATE_REVOKED: "the client's certificate is revoked: let the client enrol anew",
    HandshakeCause.REVOCATION_UNKNOWN: (
        "whether the client's certificate is revoked cannot be told: see [revocation], and the log, for what is missing"
    ),
    HandshakeCause.CLIENT_CERTIFICATE_REJECTED: (
        "the client's certificate is not good for client authentication: look at its extended key usage, key and "
        "signature"
    ),
    HandshakeCause.NO_CLIENT_CERTIFICATE: (
        "the client presented no certificate and client_auth mode is required: give it one, or serve first enrolments "
        "with mode optional"
    ),
    HandshakeCause.SERVER_CERTIFICATE_REJECTED: (
        "the client does not accept the server's certificate: give it the right trust anchor, and compare names and "
        "dates with kipuka tls show"
    ),
    HandshakeCause.PLAIN_HTTP: "the client speaks HTTP without TLS: use an https URL",
    HandshakeCause.NOT_TLS: "the client speaks something other than TLS: find out what runs at its address",
    HandshakeCause.HANDSHAKE_TIMEOUT: (
        "the client did not finish within [server] handshake_timeout: look at the network between, or at the client"
    ),
    HandshakeCause.CLIENT_CLOSED: (
        "the client closed the connection during the handshake: its own log says why; monitors and scanners do so too"
    ),
    HandshakeCause.PROXY_HEADER_MISSING: (
        "a load balancer of [server] proxy_protocol_from did not begin with a PROXY protocol header: switch it on "
        "there (version 2), or take the address from the list"
    ),
    HandshakeCause.PROXY_HEADER_MALFORMED: (
        "a load balancer sent a PROXY protocol header that cannot be used: it has to be version 2, for TCP"
    ),
    HandshakeCause.PROXY_HEADER_NOT_ALLOWED: (
        "a PROXY protocol header came from an address that may not send one: if it is your load balancer and this is "
        "the EST listener, add it to [server] proxy_protocol_from"
    ),
    HandshakeCause.OTHER: "the handshake failed for a reason without a name here",
}


@dataclass(frozen=True, slots=True)
class FailedHandshake:
    """A connection that never became one: the client's address, the cause, and what OpenSSL said."""

    address: str
    cause: HandshakeCause
    detail: str


class NotTls(ssl.SSLError):
    """What arrived is no TLS record; ``first_bytes`` (at most 16) say what it is instead."""

    def __init__(self, first_bytes: bytes) -> None:
        super().__init__("the first bytes are no TLS record")
        self.first_bytes = first_bytes

    def __str__(self) -> str:
        return str(self.args[0])  # SSLError would show the tuple of its arguments


NOT_TLS_REASONS = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER"})
"""What OpenSSL says of a first record that is none. It knows the commonest HTTP methods only."""

_PROXY_HEADERS = (b"\r\n\r\n\0", b"PROXY")  # as far as OpenSSL reads in any case
_HTTP_REQUEST = re.compile(rb"[A-Z]{3,15} ")

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_BY_VERIFY_CODE = {
    2: HandshakeCause.UNKNOWN_CA,  # the issuer of an intermediate is missing
    18: HandshakeCause.UNKNOWN_CA,  # a self-signed certificate
    19: HandshakeCause.UNKNOWN_CA,  # a self-signed certificate in the chain
    20: HandshakeCause.UNKNOWN_CA,  # the issuer is missing
    21: HandshakeCause.UNKNOWN_CA,  # a chain of one certificate
    27: HandshakeCause.UNKNOWN_CA,  # the root is not trusted for this
    9: HandshakeCause.CERTIFICATE_NOT_YET_VALID,
    10: HandshakeCause.CERTIFICATE_EXPIRED,
    23: HandshakeCause.CERTIFICATE_REVOKED,
}
_BY_REASON = {
    "NO_SHARED_CIPHER": HandshakeCause.NO_SHARED_CIPHER,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": HandshakeCause.NO_SHARED_CIPHER,
    "NO_SUITABLE_GROUPS": HandshakeCause.NO_SHARED_CIPHER,
    "NO_SUITABLE_KEY_SHARE": HandshakeCause.NO_SHARED_CIPHER,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": HandshakeCause.NO_SHARED_CIPHER,
    "UNSUPPORTED_PROTOCOL": HandshakeCause.PROTOCOL_VERSION,
    "UNKNOWN_PROTOCOL": HandshakeCause.PROTOCOL_VERSION,  # SSL 2.0
    "WRONG_VERSION_NUMBER": HandshakeCause.PROTOCOL_VERSION,  # in a record; without one it is NotTls
    "VERSION_TOO_LOW": HandshakeCause.PROTOCOL_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": HandshakeCause.PROTOCOL_VERSION,
    "TLSV1_ALERT_INAPPROPRIATE_FALLBACK": HandshakeCause.PROTOCOL_VERSION,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": HandshakeCause.NO_CLIENT_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": HandshakeCause.CLIENT_CERTIFICATE_REJECTED,
    "BAD_SIGNATURE": HandshakeCause.CLIENT_CERTIFICATE_REJECTED,
    "WRONG_CERTIFICATE_TYPE": HandshakeCause.CLIENT_CERTIFICATE_REJECTED,
    "TLSV1_ALERT_UNKNOWN_CA": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "TLSV1_ALERT_ACCESS_DENIED": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "TLSV1_UNRECOGNIZED_NAME": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_BAD_CERTIFICATE": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": HandshakeCause.SERVER_CERTIFICATE_REJECTED,
    "TLSV1_ALERT_USER_CANCELLED": HandshakeCause.CLIENT_CLOSED,
    "UNEXPECTED_EOF_WHILE_READING": HandshakeCause.CLIENT_CLOSED,
}
_BY_CODE = {
    each.value: each
    for each in (
        HandshakeCause.CERTIFICATE_REVOKED,
        HandshakeCause.REVOCATION_UNKNOWN,
        HandshakeCause.NO_CLIENT_CERTIFICATE,
        HandshakeCause.PROXY_HEADER_MISSING,
        HandshakeCause.PROXY_HEADER_MALFORMED,
    )
}


def classify(address: str, error: Exception) -> FailedHandshake:
    """The cause behind what ``connect_accepted_socket``, or a check after it, raised.

    An error of kipuka's own brings the cause's word as its attribute ``code``.
    """
    return FailedHandshake(address, *_cause_of(error))


def _cause_of(error: Exception) -> tuple[HandshakeCause, str]:
    code = _BY_CODE.get(getattr(error, "code", None) or "")
    if code is not None:
        return code, str(error)
    if isinstance(error, ssl.SSLError):
        return _cause_of_tls_error(error)
    # asyncio and uvloop raise ConnectionAbortedError for their own time-out; a client's abort is ECONNRESET.
    if isinstance(error, TimeoutError | ConnectionAbortedError) and error.errno is None:
        return HandshakeCause.HANDSHAKE_TIMEOUT, ""
    if isinstance(error, ConnectionError | EOFError):
        return HandshakeCause.CLIENT_CLOSED, ""
    return HandshakeCause.OTHER, str(error) or type(error).__name__


def _cause_of_tls_error(error: ssl.SSLError) -> tuple[HandshakeCause, str]:
    if isinstance(error, NotTls):
        return _foreign(error.first_bytes), ""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _BY_VERIFY_CODE.get(getattr(error, "verify_code", 0), HandshakeCause.CLIENT_CERTIFICATE_REJECTED)
        return cause, getattr(error, "verify_message", None) or str(error)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return HandshakeCause.CLIENT_CLOSED, ""
    reason = error.reason or str(error)
    return _BY_REASON.get(reason, HandshakeCause.OTHER), reason


def _foreign(first_bytes: bytes) -> HandshakeCause:
    if first_bytes.startswith(_PROXY_HEADERS):
        return HandshakeCause.PROXY_HEADER_NOT_ALLOWED
    return HandshakeCause.PLAIN_HTTP if _HTTP_REQUEST.match(first_bytes) else HandshakeCause.NOT_TLS
