"""What a CA answers for its certificates with, and what the store knows of their status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from kipuka_core.model.status import PublishedCrl, RecordedStatus, RevocationState, StatusChange


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusTimes:
    """How long what a CA says of its certificates is good (``[[ca]] crl_validity`` and so on)."""

    crl_validity: timedelta = timedelta(days=7)
    """From thisUpdate to nextUpdate of a CRL."""
    crl_refresh: timedelta = timedelta(days=1)
    """After this time a CRL is made anew although nothing was revoked."""
    ocsp_validity: timedelta = timedelta(hours=1)
    """From thisUpdate to nextUpdate of an OCSP answer."""


class StatusStore(Protocol):
    """The store, as CRLs and OCSP need it. Every method raises StoreUnavailable when the database does not answer."""

    async def revocation_state(self, issuer_key_id: str) -> RevocationState:
        """How often something has changed, and the newest CRL. Cheap: asked at every request."""
        ...

    async def status_changes(self, issuer_key_id: str, *, after: int, ended_since: datetime) -> Sequence[StatusChange]:
        """What has changed after this number, oldest first; certificates that ended before ``ended_since`` left out."""
        ...

    async def told_change(self, issuer_key_id: str) -> int:
        """Up to which change the external CA that issued has been told."""
        ...

    async def note_told(self, issuer_key_id: str, change: int) -> None:
        """It knows up to this change now."""
        ...

    async def recorded_status(self, issuer_key_id: str, serial_hex: str) -> RecordedStatus | None:
        """The status of one certificate, or None for one that is not on record. Cheap."""
        ...

    async def newest_crl(self, issuer_key_id: str) -> PublishedCrl | None:
        """The newest CRL with its bytes."""
        ...

    async def publish_crl(self, crl: PublishedCrl, *, number_before: int | None) -> bool:
        """Make this the newest CRL, if the newest is still the one with ``number_before`` (None: there is none).

        False: another process was first, and this CRL is to be forgotten.
        """
        ...


def can_sign_crls(issuer: x509.Certificate) -> bool:
    """Whether keyUsage allows it (RFC 5280 4.2.1.3)."""
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """As all that the issuer signs has it: its SubjectKeyIdentifier (RFC 5280 4.2.1.1), or made from its key."""
    try:
        ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
