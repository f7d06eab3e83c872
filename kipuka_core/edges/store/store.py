"""The face of the store: the ``Store`` protocol on threads, one that writes and others that read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from kipuka_core.domain.ports import LockoutLimits
from kipuka_core.edges.store import (
    audit_heads,
    certificates,
    events,
    inventory,
    lockouts,
    one_time_passwords,
    owner,
    requests,
    retention,
    revocations,
    schema,
)
from kipuka_core.edges.store.administration import AdministrationQueries
from kipuka_core.edges.store.audit_heads import Anchors
from kipuka_core.edges.store.engine import Engines, configuration_errors, create_engines, describe
from kipuka_core.edges.store.lookups import Lookups
from kipuka_core.edges.store.writer import Batch, JobThread
from kipuka_core.errors import StoreUnavailable
from kipuka_core.model.audit_chain import AuditHead
from kipuka_core.model.event import Event
from kipuka_core.model.record import OneTimePassword, RecordedCertificate, Reservation, StoredRequest
from kipuka_core.model.status import CrlFacts, PublishedCrl, RecordedStatus, RevocationState, StatusChange
from kipuka_core.model.verdict import Wait

_PING = text("SELECT 1")


_EVENTS_SHARE = 0.5


class SqlStore(AdministrationQueries):
    """Implements :class:`kipuka_core.domain.ports.Store` and ``AdminStore``; made by :func:`open_store`.

    Reads do not wait for the fsync of a batch of writes: those that scan have a thread and a connection of their own,
    those that find one row by an index run at once where that costs less (:mod:`.lookups`), or else have a thread too.
    What a finished write has recorded, every later read sees, in every process.
    """

    def __init__(
        self,
        writer: JobThread,
        reader: JobThread,
        lookups: JobThread | Lookups,
        *,
        clock: Callable[[], datetime],
        check_file: Callable[[], None],
        anchors: Anchors,
    ) -> None:
        self._write = writer.run
        self._read = reader.run
        self._look_up = lookups.run
        self._check_file = check_file
        self._clock = clock
        self._anchors = anchors
        self._threads = {"writer": writer, "reader": reader}
        if isinstance(lookups, JobThread):
            self._threads["lookups"] = lookups
        self._owner = owner.this_process()
        self._lockouts = lockouts.LockoutSnapshot(self._read_lockouts)

    # -- one road --------------------------------------------------------------------------------------------------
    async def find_request(self, key: str) -> StoredRequest | None:
        """See the protocol. A refused request is found too: its refusal answers the repeated one."""
        return await self._look_up(partial(requests.find_request, key=key, now=self._clock()))

    async def reserve(
        self, otp_id: str, *, request_id: str, label: str, csr_fingerprint: str, now: datetime, lease_seconds: int
    ) -> Reservation:
        """See the protocol. The reservation belongs to this process until it is committed, released or kept."""
        wanted = one_time_passwords.ReserveRequest(
            otp_id=otp_id,
            request_id=request_id,
            label=label,
            csr_fingerprint=csr_fingerprint,
            now=now,
            lease_seconds=lease_seconds,
            owner=self._owner,
        )
        return await self._write(partial(one_time_passwords.reserve, wanted=wanted), locks=otp_id)

    async def release(self, request_id: str) -> None:
        """See the protocol. A reservation that is kept for a remembered request stays."""
        await self._write(partial(one_time_passwords.release, request_id=request_id))

    async def replayable(self, otp_id: str, csr_fingerprint: str, since: datetime) -> RecordedCertificate | None:
        """See the protocol. A revoked certificate is not handed out again."""
        return await self._look_up(
            partial(certificates.replayable, otp_id=otp_id, csr_fingerprint=csr_fingerprint, since=since)
        )

    async def remember(self, request: StoredRequest, event: Event | None = None) -> StoredRequest:
        """See the protocol. A second call with the same id moves the row on, from intent to waiting or back."""
        return await self._write(partial(requests.remember, request=request, event=event))

    async def commit(self, record: RecordedCertificate, event: Event) -> None:
        """See the protocol. ``record.request_id`` names the reservation and the remembered request, by either's id.

        ReservationLost also when the remembered request was refused in the meantime; AlreadyIssued also when this
        request has a certificate.
        """
        commit = partial(certificates.commit_certificate, record=record, event=event, now=self._clock())
        await self._write(commit, locks=record.otp_id)

    async def withdraw_intent(self, request_id: str) -> None:
        """See the protocol."""
        await self._write(partial(requests.withdraw_intent, request_id=request_id))

    async def note_pending(
        self,
        request_id: str,
        wait: Wait,
        *,
        next_poll_at: datetime,
        retry_after_seconds: int,
        event: Event | None = None,
    ) -> None:
        """See the protocol."""
        await self._write(
            partial(
                requests.note_pending,
                request_id=request_id,
                wait=wait,
                next_poll_at=next_poll_at,
                retry_after_seconds=retry_after_seconds,
                event=event,
            )
        )

    async def forget_refused(self, request_id: str) -> bool:
        """See the protocol."""
        return await self._write(partial(requests.forget_refused, request_id=request_id))

    async def keep_answer(self, request_id: str, certificate_der: bytes) -> None:
        """See the protocol."""
        await self._write(partial(requests.keep_answer, request_id=request_id, certificate_der=certificate_der))

    async def poll_at(self, request_id: str, moment: datetime | None, event: Event | None = None) -> None:
        """See the protocol."""
        await self._write(partial(requests.poll_at, request_id=request_id, moment=moment, event=event))

    async def claim_polls(self, now: datetime, lease: timedelta, at_most: int) -> Sequence[StoredRequest]:
        """See the protocol."""
        return await self._write(partial(requests.claim_polls, now=now, lease=lease, at_most=at_most))

    async def decide_request(self, request_id: str, *, refused_because: str, event: Event) -> None:
        """See the protocol. A request that is decided already stays as it is, and the event is not recorded."""
        await self._write(
            partial(requests.decide_request, request_id=request_id, refused_because=refused_because, event=event)
        )

    async def get_request(self, request_id: str) -> StoredRequest | None:
        """See the protocol."""
        return await self._look_up(partial(requests.get_request, request_id=request_id))

    async def mark_fetched(self, request_id: str, now: datetime) -> None:
        """See the protocol. The first time counts."""
        await self._write(partial(requests.mark_fetched, request_id=request_id, now=now))

    # -- certificates ----------------------------------------------------------------------------------------------
    async def find_certificate(self, issuer_key_id: str, serial_hex: str) -> RecordedCertificate | None:
        """See the protocol."""
        return await self._look_up(
            partial(certificates.find_certificate, issuer_key_id=issuer_key_id, serial_hex=serial_hex)
        )

    async def search_certificates(
        self,
        *,
        serial_hex: str | None = None,
        subject: str | None = None,
        entity_id: str | None = None,
        status: str | None = None,
        limit: int = 50,
    ) -> Sequence[RecordedCertificate]:
        """See the protocol. ``active`` leaves the expired ones out; raises ValueError for an unknown status."""
        return await self._read(
            partial(
                certificates.search_certificates,
                serial_hex=serial_hex,
                subject=subject,
                entity_id=entity_id,
                status=status,
                limit=limit,
                now=self._clock(),
            )
        )

    async def revoke_certificate(
        self, issuer_key_id: str, serial_hex: str, *, reason: int, now: datetime, event: Event
    ) -> bool:
        """See the protocol. The first time and reason stay, unless the reason was certificateHold (6)."""
        return await self._write(
            partial(
                certificates.revoke_certificate,
                issuer_key_id=issuer_key_id,
                serial_hex=serial_hex,
                reason=reason,
                now=now,
                event=event,
            )
        )

    # -- what CRLs and OCSP say ------------------------------------------------------------------------------------
    async def revocation_state(self, issuer_key_id: str) -> RevocationState:
        """See :class:`kipuka_core.domain.status_ports.StatusStore`."""
        return await self._look_up(partial(revocations.revocation_state, issuer_key_id=issuer_key_id))

    async def status_changes(self, issuer_key_id: str, *, after: int, ended_since: datetime) -> Sequence[StatusChange]:
        """See :class:`kipuka_core.domain.status_ports.StatusStore`."""
        return await self._read(
            partial(revocations.status_changes, issuer_key_id=issuer_key_id, after=after, ended_since=ended_since)
        )

    async def told_change(self, issuer_key_id: str) -> int:
        """See :class:`kipuka_core.domain.status_ports.StatusStore`."""
        return await self._read(partial(revocations.told_change, issuer_key_id=issuer_key_id))

    async def note_told(self, issuer_key_id: str, change: int) -> None:
        """See :class:`kipuka_core.domain.status_ports.StatusStore`."""
        await self._write(partial(revocations.note_told, issuer_key_id=issuer_key_id, change=change))

    async def recorded_status(self, issuer_key_id: str, serial_hex: str) -> RecordedStatus | None:
        """See :class:`kipuka_core.domain.status_ports.StatusStore`."""
        return await self._look_up(
            partial(revocations.recorded_status, issuer_key_id=issuer_key_id, serial_hex=serial_hex)
        )

    async def newest_crl(self, issuer_key_id: str) -> PublishedCrl | None:
        """See :class:`kipuka_core.domain.status_ports.StatusStore`."""
        return await self._read(partial(revocations.newest_crl, issuer_key_id=issuer_key_id))

    async def all_crls(self) -> Sequence[CrlFacts]:
        """The newest CRL of every issuer's key, by the CA's id."""
        return await self._read(revocations.all_crls)

    async def publish_crl(self, crl: PublishedCrl, *, number_before: int | None) -> bool:
        """See :class:`kipuka_core.domain.status_ports.StatusStore`."""
        return await self._write(partial(revocations.publish_crl, crl=crl, number_before=number_before))

    # -- one-time passwords ----------------------------------------------------------------------------------------
    async def add_otp(self, otp: OneTimePassword, event: Event) -> None:
        """See the protocol."""
        await self._write(partial(one_time_passwords.add_otp, otp=otp, event=event))

    async def find_otp(self, token_hash: bytes) -> OneTimePassword | None:
        """See the protocol."""
        return await self._look_up(partial(one_time_passwords.find_otp, token_hash=token_hash))

    async def knows_otp_entity(self, entity_id: str) -> bool:
        """See the protocol."""
        return await self._look_up(partial(one_time_passwords.knows_otp_entity, entity_id=entity_id))

    async def list_otps(self) -> Sequence[OneTimePassword]:
        """See the protocol."""
        return await self._read(one_time_passwords.list_otps)

    async def revoke_otp(self, otp_id: str, *, now: datetime, event: Event) -> bool:
        """See the protocol. Its reservations go too: an enrolment under way loses its own."""
        revoke = partial(one_time_passwords.revoke_otp, otp_id=otp_id, now=now, event=event)
        return await self._write(revoke, locks=otp_id)

    # -- lockout ---------------------------------------------------------------------------------------------------
    async def locked_until(self, address: str, entity_id: str, now: datetime) -> datetime | None:
        """See the protocol. From a snapshot: lockouts of this process at once, of others within a second."""
        return await self._lockouts.locked_until(address, entity_id, now)

    async def count_failure(
        self, address: str, entity_id: str, *, limits: LockoutLimits, now: datetime
    ) -> datetime | None:
        """See the protocol. A pair or address that is locked out already is not counted."""
        until = await self._write(
            partial(lockouts.count_failure, address=address, entity_id=entity_id, limits=limits, now=now)
        )
        if until is not None:
            self._lockouts.forget()
        return until

    async def _read_lockouts(self, now: datetime) -> lockouts.Lockouts:
        return await self._read(partial(lockouts.active_lockouts, now=now))

    # -- events and health -----------------------------------------------------------------------------------------
    async def add_event(self, event: Event) -> None:
        """See the protocol."""
        # A flood of refusals does not take the queue from enrolments.
        await self._write(partial(_add_event, event=event), share=_EVENTS_SHARE)

    async def search_events(self, *, limit: int = 50) -> Sequence[dict[str, Any]]:
        """The newest audit facts as :meth:`kipuka_core.model.event.Event.as_dict` gave them, newest first."""
        return await self._read(partial(events.newest_events, limit=limit))

    def anchor(self, head: AuditHead) -> None:
        """See the protocol. The next transaction takes it along."""
        self._anchors.note(head)

    async def audit_heads(self) -> Sequence[AuditHead]:
        """See the protocol."""
        return await self._read(audit_heads.all_heads)

    # -- retention ---------------------------------------------------------------------------------------------------
    async def claim_job(self, name: str, now: datetime, interval: timedelta) -> bool:
        """Whether a job is due and this process shall do it; nobody else will before the interval has passed."""
        return await self._write(partial(retention.claim_job, name=name, now=now, interval=interval))

    async def old_rows(self, kind: retention.OldKind, before: datetime, limit: int) -> list[retention.OldRow]:
        """The oldest rows of a kind that were over before a moment."""
        return await self._read(partial(retention.old_rows, kind=kind, before=before, limit=limit))

    async def delete_rows(self, kind: retention.OldKind, keys: Sequence[Any]) -> None:
        """Forget rows, once they have been archived."""
        await self._write(partial(retention.delete_rows, kind=kind, keys=keys), share=_EVENTS_SHARE)

    async def ping(self) -> None:
        """See the protocol. Asks both threads, and whether a SQLite file is still the one that they write to."""
        await asyncio.gather(self._read(_ping), self._write(_ping))
        try:
            await asyncio.to_thread(self._check_file)
        except (OSError, SQLAlchemyError) as error:
            raise StoreUnavailable(describe(error) if isinstance(error, SQLAlchemyError) else str(error)) from error

    def queued(self) -> dict[str, int]:
        """How many jobs wait for each of the threads."""
        return {name: thread.pending for name, thread in self._threads.items()}

    async def inventory(self) -> inventory.Inventory:
        """How many certificates and one-time passwords there are."""
        return await self._read(partial(inventory.take_inventory, now=self._clock()))

    async def reconcile(self) -> None:
        """Drop the reservations whose lease ran out or whose process died (invariant 5)."""
        await self._write(partial(one_time_passwords.reconcile, now=self._clock()))


def _ping(batch: Batch) -> None:
    batch.connection.execute(_PING)


def _add_event(batch: Batch, event: Event) -> None:
    batch.together(events.insert_events, event)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_store(
    url: str,
    *,
    clock: Callable[[], datetime] = _utc_now,
    max_pending: int = 1000,
    busy_timeout_seconds: float = 5.0,
) -> AsyncIterator[SqlStore]:
    """Open the database of ``[db] url``, bring its schema up to date and drop the reservations of dead processes.

    ``max_pending`` jobs may be queued, beyond which a call raises Unavailable; ``busy_timeout_seconds`` is how long one
    transaction waits for other processes. Leaving the context finishes what is queued.

    Raises :class:`~kipuka_core.errors.ConfigurationError` when the database cannot be used.
    """
    engines = create_engines(url, busy_timeout_seconds=busy_timeout_seconds)
    async with AsyncExitStack() as stack:
        stack.callback(engines.dispose)
        await asyncio.to_thread(_prepare, engines, busy_timeout_seconds)
        thread = partial(
            JobThread,
            max_pending=max_pending,
            busy_timeout_seconds=busy_timeout_seconds,
            check=engines.check_identity,
        )
        reader = thread(engines.reader, name="kipuka-store-reader")
        stack.push_async_callback(reader.aclose)
        anchors = Anchors(lambda: writer.run(lambda _: None))
        writer = thread(
            engines.writer,
            name="kipuka-store-writer",
            take_along=anchors.take_along,
            lock=one_time_passwords.lock_passwords if engines.sqlite_file is None else None,
        )
        stack.push_async_callback(writer.aclose)
        stack.push_async_callback(anchors.close)
        lookups: JobThread | Lookups
        if engines.lookup is not None:
            lookups = Lookups(engines.lookup, thread=reader, check=engines.check_identity)
            stack.callback(lookups.close)
        else:  # a thread of their own, so that no enrolment waits behind a search
            lookups = thread(engines.reader, name="kipuka-store-lookups")
            stack.push_async_callback(lookups.aclose)
        store = SqlStore(writer, reader, lookups, clock=clock, check_file=engines.check_file, anchors=anchors)
        await store.reconcile()
        yield store


def _prepare(engines: Engines, busy_timeout_seconds: float) -> None:
    with configuration_errors(engines):
        schema.ensure_schema(engines, busy_timeout_seconds=busy_timeout_seconds)
