"""Certificates from files, and the way from the engine's CA up to its root."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from kipuka_core import CaChain, Services, read_certificates, up_to_the_root
from kipuka_vault.settings import VaultSettings


class ChainFiles:
    """What the settings ``chain`` and ``previous`` name. Raises ConfigurationError for what is no use."""

    def __init__(self, settings: VaultSettings, services: Services, where: str) -> None:
        self._chain_setting = f"{where}.chain"
        self._above = read_certificates(settings.chain, services, self._chain_setting)
        self._previous = read_certificates(settings.previous, services, f"{where}.previous")

    def chain(self, issuing: x509.Certificate, told: Sequence[x509.Certificate]) -> CaChain:
        """From the engine's CA to the root, with what Vault itself has told.

        Raises ConfigurationError where a certificate is missing.
        """
        certificates = up_to_the_root(issuing, (*told, *self._above), self._chain_setting)
        return CaChain(certificates=certificates, previous=self._previous)
