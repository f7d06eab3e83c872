"""Stand-ins for what the core lends to plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.errors import StoreUnavailable
from kipuka_core.model.audit_chain import AuditHead
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.key_type import key_type_of
from kipuka_core.model.names import common_names, general_name_text, san_entry, san_of
from kipuka_core.model.record import CertificateStatus, OneTimePassword, RecordedCertificate


@dataclass
class FakeStore:
    """The part of the store that plugins read, in memory.

    It is as fussy about text as a database: a NUL or a lone surrogate is a ValueError. Every call gives up the event
    loop once, so that callers interleave and can be cancelled.
    """

    certificates: dict[tuple[str, str], RecordedCertificate] = field(default_factory=dict)
    passwords: list[OneTimePassword] = field(default_factory=list)
    heads: list[AuditHead] = field(default_factory=list)
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
            sans=tuple(map(san_entry, san_of(certificate) or ())),
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
        """As :meth:`kipuka_core.domain.ports.Records.find_certificate`."""
        await self._answer(issuer_key_id, serial_hex)
        return self.certificates.get((issuer_key_id, serial_hex))

    async def search_certificates(
        self,
        *,
        serial_hex: str | None = None,
        subject: str | None = None,
        entity_id: str | None = None,
        status: str | None = None,
        limit: int = 50,
    ) -> Sequence[RecordedCertificate]:
        """As :meth:`kipuka_core.domain.ports.Records.search_certificates`."""
        await self._answer(*(each for each in (serial_hex, subject, entity_id, status) if each is not None))
        found = [
            record
            for record in self.certificates.values()
            if serial_hex in {None, record.serial_hex}
            and entity_id in {None, record.entity_id}
            and (subject is None or _is_called(record, subject.lower()))
            and (status is None or _has_status(record, status))
        ]
        return sorted(found, key=lambda record: record.issued_at, reverse=True)[:limit]

    async def find_otp(self, token_hash: bytes) -> OneTimePassword | None:
        """As :meth:`kipuka_core.domain.ports.Records.find_otp`."""
        await self._answer()
        return next((password for password in self.passwords if password.token_hash == token_hash), None)

    async def knows_otp_entity(self, entity_id: str) -> bool:
        """As :meth:`kipuka_core.domain.ports.Records.knows_otp_entity`."""
        await self._answer(entity_id)
        return any(password.entity_id == entity_id for password in self.passwords)

    def anchor(self, head: AuditHead) -> None:
        """As :meth:`kipuka_core.domain.ports.Records.anchor`."""
        self.heads.append(head)

    async def ping(self) -> None:
        """As :meth:`kipuka_core.domain.ports.Records.ping`."""
        await self._answer()

    async def _answer(self, *texts: str) -> None:
        await asyncio.sleep(0)
        for text in texts:
            if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError("this text cannot go into a database")
        if self.unavailable:
            raise StoreUnavailable("the fake store is unavailable")


def _is_called(record: RecordedCertificate, name: str) -> bool:
    certificate = x509.load_der_x509_certificate(record.certificate_der)
    values = map(general_name_text, san_of(certificate) or ())
    names = {each.lower() for each in (*common_names(certificate.subject), *values)}
    return any(each.startswith(name[:-1]) for each in names) if name.endswith("*") else name in names


def _has_status(record: RecordedCertificate, status: str) -> bool:
    is_over = record.status is CertificateStatus.ACTIVE and record.not_after <= datetime.now(UTC)
    return status == ("expired" if is_over else record.status.value)
