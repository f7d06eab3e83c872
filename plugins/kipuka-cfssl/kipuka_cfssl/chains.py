"""Certificates from files, and the way from CFSSL's CA up to its root."""

from __future__ import annotations

from cryptography import x509

from kipuka_cfssl.settings import CfsslSettings
from kipuka_core import CaChain, Services, read_certificates, up_to_the_root


class ChainFiles:
    """What the settings ``cert``, ``chain`` and ``previous`` name. Raises ConfigurationError for what is no use."""

    def __init__(self, settings: CfsslSettings, services: Services, where: str) -> None:
        self._chain_setting = f"{where}.chain"
        own = read_certificates((settings.cert,) if settings.cert else (), services, f"{where}.cert")
        self.issuing = own[0] if own else None
        self._above = (*own[1:], *read_certificates(settings.chain, services, self._chain_setting))
        self._previous = read_certificates(settings.previous, services, f"{where}.previous")

    def chain(self, issuing: x509.Certificate) -> CaChain:
        """From CFSSL's CA to the root. Raises ConfigurationError where a certificate is missing."""
        certificates = up_to_the_root(issuing, self._above, self._chain_setting)
        return CaChain(certificates=certificates, previous=self._previous)
