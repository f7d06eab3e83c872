"""One-time passwords: made one by one or many at once, listed, withdrawn, removed when they have ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kipuka_core.domain.admin.announcing import announce_all, tell_all
from kipuka_core.domain.admin.store import AdminStore
from kipuka_core.domain.one_time_passwords import new_one_time_password, pattern_problem
from kipuka_core.domain.ports import EventHub
from kipuka_core.errors import InvalidInput, NotFound
from kipuka_core.model.administrator import Administrator
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.event import OtpCreated, OtpRevoked, OtpsRemoved
from kipuka_core.model.record import OneTimePassword
from kipuka_core.model.search import Page, PageWanted

BATCH_AT_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpDefaults:
    """``[auth.otp]`` of the authenticator that serves one-time passwords."""

    token_bits: int = 160
    ttl_seconds: int = 86_400
    max_usage: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpWanted:
    """A one-time password to be made; None: as configured."""

    entity_id: str
    ttl_seconds: int | None = None
    max_usage: int | None = None
    label: str | None = None
    """None: good at every label; ``""`` only at the door without one."""
    subject_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class OtpMade:
    """The record, and the token, which is shown once and is nowhere else."""

    record: OneTimePassword
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpAdministration:
    """What administrators do with one-time passwords."""

    store: AdminStore
    events: EventHub
    clock: Callable[[], datetime]
    defaults: OtpDefaults
    labels: Collection[str]
    """Every label, ``""`` among them."""
    patterns_are_enforced: bool
    """Whether the policy ``names``, which looks at them, is in use."""

    async def create(
        self,
        administrator: Administrator,
        wanted: Sequence[OtpWanted],
        *,
        place: Callable[[int], str] | None = None,
    ) -> list[OtpMade]:
        """Make all of them or none.

        Raises InvalidInput naming the field (with several, the entry: ``[2].entity_id``; or what ``place`` calls an
        entry, counted from 0), and Unavailable when the audit cannot be written.
        """
        if len(wanted) > BATCH_AT_MOST:
            raise InvalidInput(f"at most {BATCH_AT_MOST} one-time passwords can be made at once")
        now = self.clock()
        if place is None:
            place = "[{}].".format if len(wanted) > 1 else lambda _: ""
        made = [self._make(each, now, place(index)) for index, each in enumerate(wanted)]
        facts = [_created(each.record, administrator) for each in made]
        if made:
            await announce_all(self.events, facts)
            await self.store.add_otps([each.record for each in made], facts)
        return made

    def _make(self, wanted: OtpWanted, now: datetime, where: str) -> OtpMade:
        if problem := entity_id_problem(wanted.entity_id):
            raise InvalidInput(f"{where}entity_id: this entity id cannot be used: {problem}")
        if wanted.label is not None and wanted.label not in self.labels:
            raise InvalidInput(f"{where}label: there is no label {wanted.label!r} in the configuration")
        if wanted.subject_pattern is not None:
            self._check_pattern(wanted.subject_pattern, where)
        try:
            record, token = new_one_time_password(
                wanted.entity_id,
                now=now,
                ttl_seconds=self.defaults.ttl_seconds if wanted.ttl_seconds is None else wanted.ttl_seconds,
                max_usage=self.defaults.max_usage if wanted.max_usage is None else wanted.max_usage,
                label=wanted.label,
                token_bits=self.defaults.token_bits,
                subject_pattern=wanted.subject_pattern,
            )
        except ValueError as error:
            raise InvalidInput(f"{where.rstrip('.: ')}: {error}" if where else str(error)) from None
        return OtpMade(record, token)

    def _check_pattern(self, subject_pattern: str, where: str) -> None:
        if problem := pattern_problem(subject_pattern):
            raise InvalidInput(f"{where}subject_pattern: {problem}")
        if not self.patterns_are_enforced:
            raise InvalidInput(
                f'{where}subject_pattern: nothing would hold names against it, because the policy "names" is not in'
                " policy.order"
            )

    async def list(
        self, page: PageWanted, *, entity_id: str | None = None, with_ended: bool = False
    ) -> Page[OneTimePassword]:
        """Newest first; without ``with_ended`` only those that can still be used."""
        return await self.store.page_of_otps(page, entity_id=entity_id, usable_at=None if with_ended else self.clock())

    async def revoke(self, administrator: Administrator, otp_id: str) -> None:
        """Withdraw one; nothing changes when it is withdrawn already. Raises NotFound."""
        record = await self.store.get_otp(otp_id)
        if record is None:
            raise NotFound("there is no one-time password with this id")
        if record.revoked_at is not None:
            return
        now = self.clock()
        event = OtpRevoked(
            time=now, actor=administrator.name, label=record.label or "", otp_id=otp_id, entity_id=record.entity_id
        )
        await self.store.revoke_otp(otp_id, now=now, event=event)
        await tell_all(self.events, [event])

    async def remove_ended(self, administrator: Administrator, ended_before: datetime) -> int:
        """Remove the records of those that expired or were withdrawn before this moment; the audit trail stays.

        Raises InvalidInput for a moment that has not come.
        """
        now = self.clock()
        if ended_before > now:
            raise InvalidInput("ended_before: must not be in the future")
        event = OtpsRemoved(
            time=now, actor=administrator.name, ended_before=ended_before.astimezone(UTC).isoformat(timespec="seconds")
        )
        removed = await self.store.remove_ended_otps(ended_before, event)
        if removed:
            await tell_all(self.events, [event])
        return removed


def _created(record: OneTimePassword, administrator: Administrator) -> OtpCreated:
    return OtpCreated(
        time=record.created_at,
        actor=administrator.name,
        label=record.label or "",
        otp_id=record.id,
        entity_id=record.entity_id,
        expires_at=record.expires_at.isoformat(),
        max_usage=record.max_usage,
        subject_pattern=record.subject_pattern or "",
    )
