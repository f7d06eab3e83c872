"""What a client asks: the operation, the connection it came by, and the decoded CSR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


class Operation(StrEnum):
    """The path suffixes of RFC 7030 3.2.2. No label may have one of these names."""

    CACERTS = "cacerts"
    CSRATTRS = "csrattrs"
    SIMPLEENROLL = "simpleenroll"
    SIMPLEREENROLL = "simplereenroll"
    SERVERKEYGEN = "serverkeygen"
    FULLCMC = "fullcmc"


@dataclass(frozen=True, slots=True)
class Connection:
    """The TLS connection that a request came by, as the application may know it."""

    source_address: str
    tls_version: str
    """``TLSv1.2`` or ``TLSv1.3``."""
    client_chain: tuple[x509.Certificate, ...] = ()
    """Verified by TLS: the client's certificate first, its trust anchor last. Empty: none was presented."""
    channel_binding: Callable[[], bytes] = field(default=lambda: b"", repr=False)
    """The binding value of this connection (tls-unique or the RFC 9266 exporter); raises CsrRefused where the
    connection has none that is safe to use (RFC 9266 1)."""
    http_version: str = "1.1"
    user_agent: str | None = None

    @property
    def client_certificate(self) -> x509.Certificate | None:
        """The leaf that the client proved possession of in the handshake."""
        return self.client_chain[0] if self.client_chain else None


@dataclass(frozen=True, slots=True)
class ChangeSubjectName:
    """The attribute of RFC 6402 2.8: the names that a renewed certificate shall have instead."""

    subject: x509.Name | None
    san: tuple[x509.GeneralName, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Csr:
    """A decoded PKCS#10 request (RFC 2986). Nothing in it has been believed yet."""

    der: bytes = field(repr=False)
    """Not in the repr: a challengePassword is in it."""
    subject: x509.Name
    public_key: PublicKeyTypes
    spki_der: bytes
    signature_hash: str | None
    """``sha256`` and the like; None where the signature algorithm has no separate hash (Ed25519, ML-DSA)."""
    signature_algorithm_oid: str
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    """Of the extensionRequest attribute, in order, no OID twice."""
    challenge_password: bytes | None = field(default=None, repr=False)
    change_subject_name: ChangeSubjectName | None = None
    fingerprint: str = ""
    """Hex SHA-256 over subject, public key and requested extensions: equal for a CSR that was signed again around
    the same key, as RFC 7030 4.2.3 makes clients do when the channel binding changed."""

    @property
    def san(self) -> tuple[x509.GeneralName, ...] | None:
        """The requested SubjectAltName, None when there is no such extension."""
        for extension in self.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                return tuple(extension.value)
        return None
