"""From settings to an SSL context.

The context starts from CPython's ``PROTOCOL_TLS_SERVER`` defaults and only adds to them: no compression, the server's
cipher preference, a session id context (``Python``) and stateless tickets are already there, so resumption works with
client certificates too. CPython sends no CA names in its CertificateRequest, which lets every client send what it has.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.domain import rules
from kipuka_core.edges.tls.ciphers import openssl_cipher_list
from kipuka_core.edges.tls.files import load_certificates, load_private_key
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES

ClientAuth = Literal["required", "optional", "none"]
CMC_RA = x509.ObjectIdentifier(rules.CMC_RA)
"""id-kp-cmcRA (RFC 6402 2.10)."""
RENEWAL_NOTICE = timedelta(days=30)

_VERIFY_MODES = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
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
        reason = getattr(error, "reason", None) or error
        raise ConfigurationError(settings.certificate_file, f"OpenSSL refuses certificate or key: {reason}") from error


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


def inspect_server_certificate(
    leaf: x509.Certificate, chain: tuple[x509.Certificate, ...], now: datetime, where: str = "tls.cert"
) -> list[str]:
    """Say what clients may dislike in a server certificate (RFC 7030 3.6.1, RFC 6402 2.10), one line each.

    ``chain`` is what follows the leaf in its file; ``now`` is aware. Raises ConfigurationError for a certificate that
    is not valid now: no client could accept it.
    """
    if now >= leaf.not_valid_after_utc:
        raise ConfigurationError(where, f"the server certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}")
    if now < leaf.not_valid_before_utc:
        raise ConfigurationError(where, f"the server certificate is valid from {leaf.not_valid_before_utc} only")
    warnings = [*_purpose_warnings(leaf), *_chain_warnings((leaf, *chain), now)]
    if leaf.not_valid_after_utc - now < RENEWAL_NOTICE:
        warnings.append(f"the server certificate ends on {leaf.not_valid_after_utc:%Y-%m-%d}: renew it now")
    return warnings


def _purpose_warnings(leaf: x509.Certificate) -> list[str]:
    warnings = []
    try:
        ekus = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        ekus = set()
    if ExtendedKeyUsageOID.SERVER_AUTH not in ekus:
        warnings.append("the server certificate lacks the extended key usage serverAuth (1.3.6.1.5.5.7.3.1)")
    if CMC_RA not in ekus:
        warnings.append(
            f"the server certificate lacks the extended key usage id-kp-cmcRA ({CMC_RA.dotted_string}): "
            "EST clients may not accept this server as registration authority (RFC 7030 3.6.1)"
        )
    try:
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        warnings.append("the server certificate has no subjectAltName: clients match host names against nothing else")
    return warnings


def _chain_warnings(certificates: tuple[x509.Certificate, ...], now: datetime) -> list[str]:
    warnings = []
    for below, above in pairwise(certificates):
        name = above.subject.rfc4514_string()
        if below.issuer != above.subject:
            warnings.append(f"in the server's chain {name} does not follow the certificate that it issued")
        if not above.not_valid_before_utc <= now < above.not_valid_after_utc:
            warnings.append(f"in the server's chain {name} is not valid now")
    return warnings


def _spki(key: object) -> bytes:
    encode = key.public_bytes  # type: ignore[attr-defined]
    return bytes(encode(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
