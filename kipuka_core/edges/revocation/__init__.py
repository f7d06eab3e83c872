"""Revocation of certificates that others issued: CRLs and OCSP (``[revocation]``).

::

    status_of(chain)          checker     every certificate below the anchor, remembered, asked once at a time
      OcspLookup.find         responders  -> ocsp (request, response), fetch (HTTP)
      CrlLookup.find          crls        -> crl_source (one file or URL) -> crl (parsed, indexed), fetch (HTTP)

URLs are taken from the configuration and from certificates whose chain TLS has verified: trusted CAs wrote them, so
the server fetches from nowhere that a stranger chooses.
"""

from kipuka_core.edges.revocation.checker import RevocationChecker, RevocationSettings, open_revocation

__all__ = ["RevocationChecker", "RevocationSettings", "open_revocation"]
