"""Stand-ins for what the core lends to plugins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.errors import StoreUnavailable
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.key_type import key_type_of
from kipuka_core.model.record import CertificateStatus, OneTimePassword, RecordedCertificate


@dataclass
class FakeStore:
    """The part of the store that authenticators read, in memory.

    It is as fussy about text as a database: a NUL or a lone surrogate is a ValueError. Every call gives up the event
    loop once, so that callers interleave and can be cancelled.
    """

    certificates: dict[tuple[str, str], RecordedCertificate] = field(default_factory=dict)
    passwords: list[OneTimePassword] = field(default_factory=list)
    unavailable: bool = False
    """True: every call raises StoreUnavailable."""

    def record(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        *,
        label: str = "",
        entity_id: str = "device",
        status: CertificateStatus = CertificateStatus.ACTIVE,
    ) -> RecordedCertificate:
        """Remember a certificate as issued by kipuka at ``label`` to ``entity_id``; again: as it is now."""
        record = RecordedCertificate(
            issuer_key_id=issuer_key_id(issuer),
            serial_hex=serial_hex(certificate),
            ca_id="default",
            label=label,
            entity_id=entity_id,
            subject=certificate.subject.rfc4514_string(),
            sans=(),
            key_type=str(key_type_of(certificate.public_key())),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            issued_at=certificate.not_valid_before_utc,
            certificate_der=certificate.public_bytes(Encoding.DER),
            status=status,
        )
        self.certificates[record.issuer_key_id, record.serial_hex] = record
        return record

    async def find_certificate(self, issuer_key_id: str, serial_hex: str) -> RecordedCertificate | None:
        """As :meth:`kipuka_core.domain.ports.Store.find_certificate`."""
        await self._answer(issuer_key_id, serial_hex)
        return self.certificates.get((issuer_key_id, serial_hex))

    async def find_otp(self, token_hash: bytes) -> OneTimePassword | None:
        """As :meth:`kipuka_core.domain.ports.Store.find_otp`."""
        await self._answer()
        return next((password for password in self.passwords if password.token_hash == token_hash), None)

    async def knows_otp_entity(self, entity_id: str) -> bool:
        """As :meth:`kipuka_core.domain.ports.Store.knows_otp_entity`."""
        await self._answer(entity_id)
        return any(password.entity_id == entity_id for password in self.passwords)

    async def ping(self) -> None:
        """As :meth:`kipuka_core.domain.ports.Store.ping`."""
        await self._answer()

    async def _answer(self, *texts: str) -> None:
        await asyncio.sleep(0)
        for text in texts:
            if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError("this text cannot go into a database")
        if self.unavailable:
            raise StoreUnavailable("the fake store is unavailable")
