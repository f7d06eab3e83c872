"""Certificates and keys from PEM files; every problem is one line that names the file."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from kipuka_core.errors import ConfigurationError

_BEGIN = re.compile(rb"^-----BEGIN (?:X509 )?CERTIFICATE-----", re.MULTILINE)


def load_certificates(path: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, in its order; at least one. Raises ConfigurationError."""
    try:
        return tuple(parse_certificates(_read(path)))
    except ValueError as error:
        raise ConfigurationError(path, str(error)) from error


def parse_certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM text; at least one. Raises ValueError, whose text goes on after the file's name."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise ValueError("holds no PEM certificate that can be read") from None
    # The parser passes over a block without its end: a file that was cut off would be fewer certificates, and no error.
    if (begun := len(_BEGIN.findall(pem))) != len(certificates):
        raise ValueError(f"holds {begun} certificates, of which only {len(certificates)} can be read")
    return certificates


def load_private_key(path: str, password: bytes | None) -> PrivateKeyTypes:
    """The private key of a PEM file. Raises ConfigurationError."""
    pem = _read(path)
    # An unencrypted key is read whether or not a password is configured: a rotated file must not stop the service.
    encrypted = b"ENCRYPTED" in pem
    if encrypted and password is None:
        raise ConfigurationError(path, "is encrypted: set key_password_env or key_password_file")
    try:
        return serialization.load_pem_private_key(pem, password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        problem = "cannot be decrypted: the password is wrong" if encrypted else "holds no readable PEM private key"
        raise ConfigurationError(path, problem) from error


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ConfigurationError(path, "does not exist") from error
    except PermissionError as error:
        raise ConfigurationError(path, "cannot be read by this user: check owner and mode") from error
    except OSError as error:
        raise ConfigurationError(path, f"cannot be read: {error.strerror}") from error
