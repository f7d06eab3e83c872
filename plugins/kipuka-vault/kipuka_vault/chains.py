"""Certificates from files, and the way from the engine's CA up to its root."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from kipuka_core import CaChain, ConfigurationError, Services
from kipuka_vault.settings import VaultSettings


class ChainFiles:
    """What the settings ``chain`` and ``previous`` name. Raises ConfigurationError for what is no use."""

    def __init__(self, settings: VaultSettings, services: Services, where: str) -> None:
        self._where = where
        self._above = self._read("chain", services, settings.chain)
        self._previous = self._read("previous", services, settings.previous)

    def chain(self, issuing: x509.Certificate, told: Sequence[x509.Certificate]) -> CaChain:
        """From the engine's CA to the root, with what Vault itself has told.

        Raises ConfigurationError where a certificate is missing.
        """
        certificates = [issuing]
        while not _issued(certificates[-1], certificates[-1]):
            upper = next((each for each in (*told, *self._above) if _issued(each, certificates[-1])), None)
            if upper is None or upper in certificates:
                missing = certificates[-1].issuer.rfc4514_string()
                raise ConfigurationError(
                    f"{self._where}.chain", f"ends before the root; add the certificate of {missing}"
                )
            certificates.append(upper)
        return CaChain(certificates=tuple(certificates), previous=self._previous)

    def _read(self, setting: str, services: Services, files: Sequence[str]) -> tuple[x509.Certificate, ...]:
        found: list[x509.Certificate] = []
        for name in files:
            path = services.base_dir / name
            try:
                found += x509.load_pem_x509_certificates(path.read_bytes())
            except OSError as error:
                problem = f"{path} cannot be read: {error.strerror}"
                raise ConfigurationError(f"{self._where}.{setting}", problem) from error
            except ValueError as error:
                problem = f"{path} does not hold PEM certificates"
                raise ConfigurationError(f"{self._where}.{setting}", problem) from error
        return tuple(found)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
