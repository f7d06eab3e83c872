"""Certificates: found, shown with their chain, revoked one by one or by a search, released from hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from kipuka_core.domain.admin.announcing import announce_all, tell_all
from kipuka_core.domain.admin.reasons import RevocationReason
from kipuka_core.domain.admin.store import AdminStore
from kipuka_core.domain.ports import EventHub
from kipuka_core.errors import Conflict, InvalidInput, NotFound, Unavailable
from kipuka_core.model.administrator import Administrator
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.event import CertificateReleased, CertificateRevoked
from kipuka_core.model.fingerprints import public_key_id
from kipuka_core.model.issued_by import issued_by
from kipuka_core.model.record import CertificateStatus, RecordedCertificate
from kipuka_core.model.search import CertificateQuery, Page, PageWanted, SearchStatus

ChainOf = Callable[[str], Awaitable[CaChain]]
"""The certificates of a CA by its id. Raises NotFound and Unavailable."""

SAMPLE_SIZE = 10
_CHUNK = 500
_HEX = frozenset("0123456789abcdef")
_MANY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRevocation:
    """What a revocation by search did, or would do."""

    is_dry_run: bool
    count: int
    """How many certificates were revoked, or would be."""
    remaining: int
    """How many a limit has left."""
    sample: Sequence[RecordedCertificate]
    """The first of them."""


def normal_serial(text: str) -> str:
    """A serial number as the store has it: lower-case hex without colons and leading zeros."""
    return text.lower().replace(":", "").lstrip("0") or "0"


def search_status(record: RecordedCertificate, now: datetime) -> SearchStatus:
    """A certificate's status as a search has it."""
    if record.status is CertificateStatus.REVOKED:
        return SearchStatus.REVOKED
    return SearchStatus.ACTIVE if record.not_after > now else SearchStatus.EXPIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAdministration:
    """What administrators do with certificates."""

    store: AdminStore
    events: EventHub
    clock: Callable[[], datetime]
    chain_of: ChainOf

    async def search(self, query: CertificateQuery, page: PageWanted) -> Page[RecordedCertificate]:
        """See :meth:`AdminStore.page_of_certificates`."""
        return await self.store.page_of_certificates(query, page)

    async def one(self, serial: str, ca_id: str | None = None) -> RecordedCertificate:
        """The certificate with this serial number (hex).

        Raises NotFound, and Conflict when several CAs have used it and ``ca_id`` names none of them.
        """
        query = CertificateQuery(serial_hex=normal_serial(serial), ca_id=ca_id)
        found = (await self.store.page_of_certificates(query, PageWanted(limit=_MANY))).items
        if not found:
            where = "" if ca_id is None else f" of the CA {ca_id}"
            hint = "" if set(query.serial_hex or "") <= _HEX else ", which is not in hex; search names by subject"
            raise NotFound(f"no certificate{where} has this serial number{hint}")
        if len(found) > 1:
            known = ", ".join(sorted({each.ca_id for each in found}))
            raise Conflict(f"several certificates have this serial number; say ca_id, one of {known}", code="ambiguous")
        return found[0]

    async def chain(self, record: RecordedCertificate) -> list[x509.Certificate]:
        """The certificate, its issuer, and so on up to the root.

        Raises Unavailable when the CA does not answer, and NotFound when it has no issuer for it any more.
        """
        leaf = x509.load_der_x509_certificate(record.certificate_der)
        ca = await self.chain_of(record.ca_id)
        known = (*ca.certificates, *ca.previous)
        issuer = next((each for each in known if _key_id(each) == record.issuer_key_id), None)
        if issuer is None:
            raise NotFound("the CA does not have the issuer of this certificate any more", code="issuer_unknown")
        chain = [leaf, issuer]
        while (above := _issuer_of(chain[-1], known)) is not None and above not in chain:
            chain.append(above)
        return chain

    async def revoke(
        self, administrator: Administrator, serial: str, reason: RevocationReason, *, ca_id: str | None = None
    ) -> RecordedCertificate:
        """Mark a certificate revoked; nothing changes when it is, unless it was only on hold. Raises as :meth:`one`."""
        record = await self.one(serial, ca_id)
        if not _changes(record, reason):
            return record
        now = self.clock()
        event = _revoked(record, administrator, reason, now)
        await self.store.revoke_certificate(
            record.issuer_key_id, record.serial_hex, reason=reason, now=now, event=event
        )
        await tell_all(self.events, [event])
        return record

    async def release(
        self, administrator: Administrator, serial: str, *, ca_id: str | None = None
    ) -> RecordedCertificate:
        """Let a certificate count again that was on hold. Raises as :meth:`one`, and Conflict when it is not."""
        record = await self.one(serial, ca_id)
        not_on_hold = Conflict(
            "only a certificate that is on hold (certificateHold) can be released", code="not_on_hold"
        )
        if record.revocation_reason != RevocationReason.certificateHold:
            raise not_on_hold
        event = CertificateReleased(
            time=self.clock(),
            actor=administrator.name,
            label=record.label,
            serial=record.serial_hex,
            ca_id=record.ca_id,
        )
        await announce_all(self.events, [event])
        if not await self.store.release_certificate(record.issuer_key_id, record.serial_hex, event):
            raise not_on_hold  # somebody was faster
        return record

    async def revoke_by_query(
        self,
        administrator: Administrator,
        query: CertificateQuery,
        reason: RevocationReason,
        *,
        dry_run: bool,
        limit: int | None = None,
    ) -> BulkRevocation:
        """Revoke every certificate that a search finds and whose status that changes, at most ``limit``.

        Each chunk is one transaction. When this is cancelled, or fails, what was revoked stays so; asked again, it goes
        on with the rest. Raises InvalidInput for a search without any filter.
        """
        if query.is_empty:
            raise InvalidInput("query: name at least one filter; nobody revokes everything by an empty one")
        count = await self.store.count_revocable(query, reason=reason)
        sample = (await self.store.revocable_certificates(query, PageWanted(limit=SAMPLE_SIZE), reason=reason)).items
        wanted = count if limit is None else min(count, limit)
        if not dry_run:
            wanted = await self._revoke_found(administrator, query, reason, wanted)
        return BulkRevocation(
            is_dry_run=dry_run, count=wanted, remaining=max(0, count - wanted), sample=sample[:wanted]
        )

    async def _revoke_found(
        self, administrator: Administrator, query: CertificateQuery, reason: RevocationReason, at_most: int
    ) -> int:
        done, after = 0, None
        while done < at_most:
            wanted = PageWanted(limit=min(_CHUNK, at_most - done), after=after)
            page = await self.store.revocable_certificates(query, wanted, reason=reason)
            now = self.clock()
            facts = [_revoked(record, administrator, reason, now) for record in page.items]
            await self.store.revoke_certificates(page.items, facts, reason=reason, now=now)
            await tell_all(self.events, facts)
            done, after = done + len(page.items), page.next
            if after is None:
                break
        return done


def _changes(record: RecordedCertificate, reason: RevocationReason) -> bool:
    if record.status is CertificateStatus.ACTIVE:
        return True
    on_hold = record.revocation_reason == RevocationReason.certificateHold
    return on_hold and reason is not RevocationReason.certificateHold


def _revoked(
    record: RecordedCertificate, administrator: Administrator, reason: RevocationReason, now: datetime
) -> CertificateRevoked:
    return CertificateRevoked(
        time=now,
        actor=administrator.name,
        label=record.label,
        serial=record.serial_hex,
        ca_id=record.ca_id,
        reason=reason.name,
    )


def _key_id(certificate: x509.Certificate) -> str:
    try:
        return public_key_id(certificate)
    except (ValueError, UnsupportedAlgorithm):
        return ""


def _issuer_of(certificate: x509.Certificate, known: Sequence[x509.Certificate]) -> x509.Certificate | None:
    return next((each for each in known if issued_by(each, certificate)), None)


async def no_chain(_ca_id: str) -> CaChain:
    """Where no CA is open. Raises Unavailable."""
    raise Unavailable("the certificates of the CA are not at hand here", code="ca_unavailable")
