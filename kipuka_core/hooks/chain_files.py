"""CA certificates that settings name by file, and the way from one of them up to its root."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.provider import Services
from kipuka_core.model.issued_by import issued_by


def read_certificates(files: Sequence[str], services: Services, where: str) -> tuple[x509.Certificate, ...]:
    """Every certificate of these PEM files, in order. Raises ConfigurationError for ``where``, naming the file."""
    found: list[x509.Certificate] = []
    for name in files:
        path = services.base_dir / name
        try:
            found += x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise ConfigurationError(where, f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigurationError(where, f"{path} does not hold PEM certificates") from error
    return tuple(found)


def up_to_the_root(
    issuing: x509.Certificate, above: Sequence[x509.Certificate], where: str
) -> tuple[x509.Certificate, ...]:
    """From an issuing certificate to the root, by certificates of ``above``.

    Raises ConfigurationError for ``where``, naming the one that is missing.
    """
    certificates = [issuing]
    while not issued_by(certificates[-1], certificates[-1]):
        upper = next((each for each in above if issued_by(each, certificates[-1])), None)
        if upper is None or upper in certificates:
            missing = certificates[-1].issuer.rfc4514_string()
            raise ConfigurationError(where, f"ends before the root; add the certificate of {missing}")
        certificates.append(upper)
    return tuple(certificates)
