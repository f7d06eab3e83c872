"""Trust anchors from files, each error one line that names the file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cryptography import x509

from kipuka_core.edges.tls.files import parse_certificates
from kipuka_core.errors import ConfigurationError


def load_anchors(paths: Iterable[Path], *, where: str, now: datetime) -> tuple[x509.Certificate, ...]:
    """Every certificate of every file; each is an anchor, so an issuing CA alone suffices.

    Raises ConfigurationError for a file that is missing, unreadable or holds no certificate, and for a certificate that
    is not a CA's or not in time.
    """
    return tuple(certificate for path in paths for certificate in _load(path, where, now))


def _load(path: Path, where: str, now: datetime) -> list[x509.Certificate]:
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(where, f"{path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(where, f"{path} cannot be read: {error.strerror}") from None
    if not pem.strip():
        raise ConfigurationError(where, f"{path} is empty")
    try:
        certificates = parse_certificates(pem)
    except ValueError as error:
        raise ConfigurationError(where, f"{path} {error}") from None
    for certificate in certificates:
        _check(certificate, path, where, now)
    return certificates


def _check(certificate: x509.Certificate, path: Path, where: str, now: datetime) -> None:
    subject = certificate.subject.rfc4514_string()
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_ca = False
    if not is_ca:
        raise ConfigurationError(where, f"{path}: {subject} is not a CA certificate (basicConstraints CA:TRUE)")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ConfigurationError(
            where,
            f"{path}: {subject} is valid only from {certificate.not_valid_before_utc}"
            f" to {certificate.not_valid_after_utc}",
        )
