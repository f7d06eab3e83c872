"""From settings to an SSL context.

The context starts from CPython's ``PROTOCOL_TLS_SERVER`` defaults and only adds to them: no compression, the server's
cipher preference, a session id context (``Python``) and stateless tickets are already there, so resumption works with
client certificates too. CPython sends no CA names in its CertificateRequest, which lets every client send what it has.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.edges.tls.ciphers import openssl_cipher_list
from kipuka_core.edges.tls.files import load_certificates, load_private_key
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES

ClientAuth = Literal["required", "optional", "none"]

_VERIFY_MODES = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_REFUSALS = {
    "EE_KEY_TOO_SMALL": "the key is too weak for TLS; take RSA with 2048 bits or more, or a curve such as P-256",
    "CA_KEY_TOO_SMALL": "a CA in the chain has a key that is too weak for TLS; RSA has 2048 bits or more",
    "CA_MD_TOO_WEAK": "a certificate is signed with SHA-1 or MD5, which TLS clients refuse; renew it with SHA-256",
}
"""What OpenSSL says at security level 2, and what it means."""
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """The TLS settings of one listener.

    ``certificate_file`` and ``key_file`` are PEM, the certificate's leaf first. ``cipher_suites`` are IANA names of
    TLS 1.2 in order of preference. ``anchors`` are trusted for client certificates, an issuing CA alone suffices.
    """

    certificate_file: str
    key_file: str
    key_password: bytes | None = field(default=None, repr=False)
    min_version: Literal["1.2", "1.3"] = "1.2"
    cipher_suites: tuple[str, ...] = DEFAULT_CIPHER_SUITES
    client_auth: ClientAuth = "optional"
    anchors: tuple[x509.Certificate, ...] = ()
    alpn: tuple[str, ...] = ("h2", "http/1.1")


def build_context(settings: ServerTls) -> ssl.SSLContext:
    """Build the server's SSL context.

    Raises ConfigurationError in one line, which names the file or the setting that has to change.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(openssl_cipher_list(settings.cipher_suites))
    context.set_alpn_protocols(list(settings.alpn))
    # A ticket costs a record and an encryption per connection; clients that resume get a new one each time.
    context.num_tickets = 1
    _load_identity(context, settings)
    _trust_clients(context, settings)
    return context


def _load_identity(context: ssl.SSLContext, settings: ServerTls) -> None:
    leaf = load_certificates(settings.certificate_file)[0]
    key = load_private_key(settings.key_file, settings.key_password)
    if _spki(key.public_key()) != _spki(leaf.public_key()):
        raise ConfigurationError(
            settings.key_file, f"is not the key of the first certificate in {settings.certificate_file}"
        )
    password = settings.key_password or b""
    try:
        # A callback, even for a key without password: otherwise OpenSSL would ask on the terminal.
        context.load_cert_chain(settings.certificate_file, settings.key_file, password=lambda: password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = str(getattr(error, "reason", None) or error)
        problem = _REFUSALS.get(reason, f"OpenSSL refuses certificate or key: {reason}")
        raise ConfigurationError(settings.certificate_file, problem) from error


def _trust_clients(context: ssl.SSLContext, settings: ServerTls) -> None:
    context.verify_mode = _VERIFY_MODES[settings.client_auth]
    if settings.client_auth == "none":
        return
    if not settings.anchors:
        raise ConfigurationError("trust_anchors", f'is empty, so client_auth mode "{settings.client_auth}" cannot work')
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    der = b"".join(anchor.public_bytes(serialization.Encoding.DER) for anchor in settings.anchors)
    try:
        context.load_verify_locations(cadata=der)
    except ssl.SSLError as error:
        raise ConfigurationError("trust_anchors", f"OpenSSL refuses a certificate: {error.reason}") from error


def _spki(key: object) -> bytes:
    encode = key.public_bytes  # type: ignore[attr-defined]
    return bytes(encode(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
