"""The CA's certificates: ACME has no place to ask for them, so they are configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509

from kipuka_core import CaChain, ConfigurationError, Services, issued_by, read_certificates


@dataclass(frozen=True, slots=True)
class Chains:
    """What ``chain`` lists: the first file is what new certificates are expected under, the others are possible too."""

    certificates: tuple[tuple[x509.Certificate, ...], ...]

    @property
    def published(self) -> CaChain:
        """As ``/cacerts`` hands it out."""
        first, *others = self.certificates
        rest = dict.fromkeys(each for chain in others for each in chain if each not in first)
        return CaChain(certificates=first, previous=tuple(rest))

    @property
    def shortest_end(self) -> datetime:
        """When the first of the issuing certificates ends."""
        return min(chain[0].not_valid_after_utc for chain in self.certificates)

    def issuer_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """The issuing certificate that a certificate is signed by; None: one that is not configured."""
        return next((chain[0] for chain in self.certificates if issued_by(chain[0], certificate)), None)


def load_chains(files: Sequence[str], services: Services, where: str) -> Chains:
    """Read and check them. Raises ConfigurationError for ``where``, naming the file."""
    return Chains(tuple(_load(name, services, where) for name in files))


def _load(name: str, services: Services, where: str) -> tuple[x509.Certificate, ...]:
    path = services.base_dir / name
    chain = read_certificates((name,), services, where)
    for each in chain:
        who = each.subject.rfc4514_string()
        if not _is_ca(each):
            raise ConfigurationError(where, f"the certificate of {who} is not a CA's ({path})")
        if each.not_valid_after_utc < services.clock():
            raise ConfigurationError(
                where, f"the certificate of {who} expired on {each.not_valid_after_utc:%Y-%m-%d} ({path})"
            )
    for lower, upper in pairwise(chain):
        if not issued_by(upper, lower):
            raise ConfigurationError(
                where,
                f"{upper.subject.rfc4514_string()} did not issue {lower.subject.rfc4514_string()}; each file holds an"
                f" issuing certificate and then its issuers, in order ({path})",
            )
    root = chain[-1]
    if not issued_by(root, root):
        raise ConfigurationError(
            where, f"ends before the root; add the certificate of {root.issuer.rfc4514_string()} ({path})"
        )
    return chain


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
