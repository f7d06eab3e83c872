"""The store as plugins have it: what is not a question is not there."""

from __future__ import annotations

from collections.abc import Sequence

from kipuka_core.domain.ports import Records
from kipuka_core.model.audit_chain import AuditHead
from kipuka_core.model.record import OneTimePassword, RecordedCertificate


class LentRecords:
    """Passes the questions of :class:`~kipuka_core.domain.ports.Records` on, and has nothing else to call."""

    __slots__ = ("_records",)

    def __init__(self, records: Records) -> None:
        self._records = records

    async def find_certificate(self, issuer_key_id: str, serial_hex: str) -> RecordedCertificate | None:
        """See :class:`~kipuka_core.domain.ports.Records`, as for the others."""
        return await self._records.find_certificate(issuer_key_id, serial_hex)

    async def search_certificates(
        self,
        *,
        serial_hex: str | None = None,
        subject: str | None = None,
        entity_id: str | None = None,
        status: str | None = None,
        limit: int = 50,
    ) -> Sequence[RecordedCertificate]:
        """Certificates, newest first."""
        return await self._records.search_certificates(
            serial_hex=serial_hex, subject=subject, entity_id=entity_id, status=status, limit=limit
        )

    async def find_otp(self, token_hash: bytes) -> OneTimePassword | None:
        """A one-time password by the hash of its token."""
        return await self._records.find_otp(token_hash)

    async def knows_otp_entity(self, entity_id: str) -> bool:
        """Whether any one-time password was ever made for this entity."""
        return await self._records.knows_otp_entity(entity_id)

    def anchor(self, head: AuditHead) -> None:
        """Record how far a chain of an audit file has come."""
        self._records.anchor(head)

    async def ping(self) -> None:
        """Raise when the database does not answer."""
        await self._records.ping()
