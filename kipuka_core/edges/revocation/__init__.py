"""Revocation of certificates that others issued: CRLs and OCSP (``[revocation]``)."""

from kipuka_core.edges.revocation.checker import RevocationChecker, RevocationSettings, open_revocation

__all__ = ["RevocationChecker", "RevocationSettings", "open_revocation"]
