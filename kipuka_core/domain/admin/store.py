"""What administration asks of the store, beyond what the road of an enrolment does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from kipuka_core.domain.ports import Store
from kipuka_core.model.event import Event
from kipuka_core.model.record import OneTimePassword, RecordedCertificate, RequestState, StoredRequest
from kipuka_core.model.search import CertificateQuery, EventQuery, Page, PageWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockout:
    """A pair of address and entity, or a whole address (``entity_id`` is None), that gets 429 for a while."""

    address: str
    entity_id: str | None
    locked_until: datetime


class AdminStore(Store, Protocol):
    """The durable memory as administrators see it.

    Every method raises :class:`~kipuka_core.errors.StoreUnavailable` when the database does not answer; those that
    take a page raise :class:`~kipuka_core.model.search.BadCursor`.
    """

    # -- certificates ----------------------------------------------------------------------------------------------
    async def page_of_certificates(self, query: CertificateQuery, page: PageWanted) -> Page[RecordedCertificate]:
        """Newest first; by name where the query has the beginning of one; by expiry where it asks for that."""
        ...

    async def revocable_certificates(
        self, query: CertificateQuery, page: PageWanted, *, reason: int
    ) -> Page[RecordedCertificate]:
        """Of these, those whose status a revocation with this reason would change."""
        ...

    async def count_revocable(self, query: CertificateQuery, *, reason: int) -> int:
        """How many these are, exactly."""
        ...

    async def revoke_certificates(
        self, certificates: Sequence[RecordedCertificate], events: Sequence[Event], *, reason: int, now: datetime
    ) -> None:
        """Mark all of them revoked, each with its event: one transaction."""
        ...

    async def release_certificate(self, issuer_key_id: str, serial_hex: str, event: Event) -> bool:
        """Take a certificate off hold; False when it is not on hold, and nothing is recorded."""
        ...

    async def issued_by_day(self, since: datetime, until: datetime) -> Mapping[date, int]:
        """How many certificates were issued on each day (UTC) from one moment to before another; only days with any."""
        ...

    # -- one-time passwords ----------------------------------------------------------------------------------------
    async def add_otps(self, otps: Sequence[OneTimePassword], events: Sequence[Event]) -> None:
        """Record several one-time passwords, each with its event: one transaction."""
        ...

    async def page_of_otps(
        self, page: PageWanted, *, entity_id: str | None, usable_at: datetime | None
    ) -> Page[OneTimePassword]:
        """Newest first; with ``usable_at`` only those that are good at that moment."""
        ...

    async def get_otp(self, otp_id: str) -> OneTimePassword | None:
        """One by its id."""
        ...

    async def remove_ended_otps(self, ended_before: datetime, event: Event) -> int:
        """Remove those that expired or were withdrawn before, and say how many; facts about them stay."""
        ...

    # -- lockouts --------------------------------------------------------------------------------------------------
    async def list_lockouts(self, now: datetime) -> Sequence[Lockout]:
        """Every one that has not ended."""
        ...

    async def lift_lockout(self, address: str, entity_id: str | None, event: Event) -> bool:
        """End a lockout now; False when there is none. What led to it is not counted again."""
        ...

    # -- waiting requests and audit --------------------------------------------------------------------------------
    async def page_of_requests(self, page: PageWanted, *, state: RequestState | None) -> Page[StoredRequest]:
        """Newest first."""
        ...

    async def page_of_events(self, query: EventQuery, page: PageWanted) -> Page[dict[str, Any]]:
        """Audit facts as :meth:`~kipuka_core.model.event.Event.as_dict` gave them, newest first, with all counted."""
        ...
