"""What administrators ask of the store, on its threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from kipuka_core.domain.admin.store import Lockout
from kipuka_core.edges.store import (
    by_day,
    certificate_search,
    certificates,
    events,
    lockouts,
    one_time_passwords,
    requests,
)
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.event import Event
from kipuka_core.model.record import OneTimePassword, RecordedCertificate, RequestState, StoredRequest
from kipuka_core.model.search import CertificateQuery, EventQuery, Page, PageWanted

ResultT = TypeVar("ResultT")


class Run(Protocol):
    """A thread of the store."""

    async def __call__(self, function: Callable[[Batch], ResultT]) -> ResultT:
        """Run a function there, in a transaction, and return its result."""
        ...


class Write(Protocol):
    """The thread that writes."""

    async def __call__(
        self, function: Callable[[Batch], ResultT], *, share: float = 1.0, locks: str | None = None
    ) -> ResultT:
        """As :meth:`kipuka_core.edges.store.writer.JobThread.run`."""
        ...


class AdministrationQueries:
    """The further part of :class:`kipuka_core.domain.admin.store.AdminStore`; a base of the store."""

    _write: Write
    _read: Run
    _look_up: Run
    _clock: Callable[[], datetime]
    _lockouts: lockouts.LockoutSnapshot

    # -- certificates ----------------------------------------------------------------------------------------------
    async def page_of_certificates(self, query: CertificateQuery, page: PageWanted) -> Page[RecordedCertificate]:
        """See the protocol."""
        search = partial(certificate_search.page_of_certificates, query=query, page=page, now=self._clock())
        return await self._read(search)

    async def revocable_certificates(
        self, query: CertificateQuery, page: PageWanted, *, reason: int
    ) -> Page[RecordedCertificate]:
        """See the protocol."""
        search = partial(
            certificate_search.revocable_certificates, query=query, page=page, reason=reason, now=self._clock()
        )
        return await self._read(search)

    async def count_revocable(self, query: CertificateQuery, *, reason: int) -> int:
        """See the protocol."""
        count = partial(certificate_search.count_revocable, query=query, reason=reason, now=self._clock())
        return await self._read(count)

    async def revoke_certificates(
        self, certificates: Sequence[RecordedCertificate], events: Sequence[Event], *, reason: int, now: datetime
    ) -> None:
        """See the protocol."""
        await self._write(partial(_revoke_all, found=certificates, facts=events, reason=reason, now=now))

    async def release_certificate(self, issuer_key_id: str, serial_hex: str, event: Event) -> bool:
        """See the protocol."""
        release = partial(
            certificates.release_certificate, issuer_key_id=issuer_key_id, serial_hex=serial_hex, event=event
        )
        return await self._write(release)

    async def issued_by_day(self, since: datetime, until: datetime) -> Mapping[date, int]:
        """See the protocol."""
        return await self._read(partial(by_day.issued_by_day, since=since, until=until))

    # -- one-time passwords ----------------------------------------------------------------------------------------
    async def add_otps(self, otps: Sequence[OneTimePassword], events: Sequence[Event]) -> None:
        """See the protocol."""
        await self._write(partial(one_time_passwords.add_otps, otps=otps, events=events))

    async def page_of_otps(
        self, page: PageWanted, *, entity_id: str | None, usable_at: datetime | None
    ) -> Page[OneTimePassword]:
        """See the protocol."""
        return await self._read(
            partial(one_time_passwords.page_of_otps, page=page, entity_id=entity_id, usable_at=usable_at)
        )

    async def get_otp(self, otp_id: str) -> OneTimePassword | None:
        """See the protocol."""
        return await self._look_up(partial(one_time_passwords.get_otp, otp_id=otp_id))

    async def remove_ended_otps(self, ended_before: datetime, event: Event) -> int:
        """See the protocol. A password that is reserved stays."""
        remove = partial(one_time_passwords.remove_ended_otps, ended_before=ended_before, event=event)
        return await self._write(remove)

    # -- lockouts --------------------------------------------------------------------------------------------------
    async def list_lockouts(self, now: datetime) -> Sequence[Lockout]:
        """See the protocol."""
        return await self._read(partial(lockouts.list_lockouts, now=now))

    async def lift_lockout(self, address: str, entity_id: str | None, event: Event) -> bool:
        """See the protocol. Other processes see it within a second."""
        lift = partial(lockouts.lift_lockout, address=address, entity_id=entity_id, event=event)
        lifted: bool = await self._write(lift)
        self._lockouts.forget()
        return lifted

    # -- waiting requests and audit --------------------------------------------------------------------------------
    async def page_of_requests(self, page: PageWanted, *, state: RequestState | None) -> Page[StoredRequest]:
        """See the protocol."""
        return await self._read(partial(requests.page_of_requests, page=page, state=state))

    async def page_of_events(self, query: EventQuery, page: PageWanted) -> Page[dict[str, Any]]:
        """See the protocol."""
        return await self._read(partial(events.page_of_events, query=query, page=page))


def _revoke_all(
    batch: Batch, found: Sequence[RecordedCertificate], facts: Sequence[Event], reason: int, now: datetime
) -> None:
    for record, event in zip(found, facts, strict=True):
        certificates.revoke_certificate(
            batch, record.issuer_key_id, record.serial_hex, reason=reason, now=now, event=event
        )
