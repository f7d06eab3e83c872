"""Certificates and keys from PEM files; every problem is one line that names the file."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from kipuka_core.errors import ConfigurationError


def load_certificates(path: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, in its order; at least one. Raises ConfigurationError."""
    pem = _read(path)
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise ConfigurationError(path, "holds no readable PEM certificate") from error


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
