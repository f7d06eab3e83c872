"""What administrators do while the audit trail cannot be written, at once, and where it is broken off."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from kipuka_core.domain.admin.certificates import CertificateAdministration, no_chain
from kipuka_core.domain.admin.lockouts import LockoutAdministration
from kipuka_core.domain.admin.passwords import OtpAdministration, OtpDefaults, OtpWanted
from kipuka_core.domain.admin.reasons import RevocationReason
from kipuka_core.domain.admin.waiting import RequestAdministration
from kipuka_core.domain.judge import NamedPolicy
from kipuka_core.domain.ports import LockoutLimits, Policy
from kipuka_core.errors import Conflict, InvalidInput, NotFound, Unavailable
from kipuka_core.model.administrator import Administrator, Role
from kipuka_core.model.certificate import Issued, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.record import RequestState
from kipuka_core.model.search import CertificateQuery, PageWanted
from kipuka_core.model.verdict import Allow, Deny, DenyKind, Verdict, Wait
from kipuka_core.testing.pki import make_csr
from kipuka_core.wire.reader import WireReader
from tests.domain.harness import Harness

ANA = Administrator("ana", Role.OPERATOR)


def certificates(harness: Harness) -> CertificateAdministration:
    return CertificateAdministration(
        store=harness.store, events=harness.events, clock=lambda: harness.now, chain_of=no_chain
    )


def passwords(harness: Harness, **fields: Any) -> OtpAdministration:
    values: dict[str, Any] = {"labels": {"", "factory"}, "patterns_are_enforced": True, "defaults": OtpDefaults()}
    return OtpAdministration(store=harness.store, events=harness.events, clock=lambda: harness.now, **(values | fields))


def requests(harness: Harness) -> RequestAdministration:
    return RequestAdministration(
        store=harness.store, clock=lambda: harness.now, reader=WireReader(), approvals=harness.approvals
    )


async def facts(harness: Harness, event: str) -> list[dict[str, Any]]:
    return [each for each in await harness.store.search_events(limit=1000) if each["event"] == event]


async def test_no_password_is_made_that_the_audit_has_not_heard_of(harness: Harness) -> None:
    harness.sink.broken = True
    with pytest.raises(Unavailable):
        await passwords(harness).create(ANA, [OtpWanted(entity_id="a"), OtpWanted(entity_id="b")])
    assert await harness.store.list_otps() == []
    harness.sink.broken = False
    made = await passwords(harness).create(ANA, [OtpWanted(entity_id="a"), OtpWanted(entity_id="b")])
    assert [each.record.entity_id for each in made] == ["a", "b"]
    assert [event.name for event in harness.sink.events] == ["otp_created", "otp_created"]


async def test_rights_are_taken_away_whether_or_not_the_audit_can_be_written(harness: Harness) -> None:
    certificate = await harness.enrol(token=await harness.otp())
    (made,) = await passwords(harness).create(ANA, [OtpWanted(entity_id="a")])
    harness.sink.broken = True
    serial = f"{certificate.serial_number:x}"
    await certificates(harness).revoke(ANA, serial, RevocationReason.keyCompromise)
    await passwords(harness).revoke(ANA, made.record.id)
    assert (await certificates(harness).one(serial)).revocation_reason == 1
    found = await harness.store.get_otp(made.record.id)
    assert found is not None
    assert found.revoked_at == harness.now
    assert [len(await facts(harness, name)) for name in ("certificate_revoked", "otp_revoked")] == [1, 1]


async def test_nothing_is_released_or_lifted_while_the_audit_cannot_be_written(harness: Harness) -> None:
    serial = f"{(await harness.enrol(token=await harness.otp())).serial_number:x}"
    await certificates(harness).revoke(ANA, serial, RevocationReason.certificateHold)
    limits = LockoutLimits(max_failures=1)
    await harness.store.count_failure("192.0.2.7", "device", limits=limits, now=harness.now)
    lockouts = LockoutAdministration(store=harness.store, events=harness.events, clock=lambda: harness.now)
    harness.sink.broken = True
    with pytest.raises(Unavailable):
        await certificates(harness).release(ANA, serial)
    with pytest.raises(Unavailable):
        await lockouts.lift(ANA, "192.0.2.7", "device")
    assert (await certificates(harness).one(serial)).revocation_reason == 6
    assert len(await lockouts.list()) == 1
    harness.sink.broken = False
    await certificates(harness).release(ANA, serial)
    await lockouts.lift(ANA, "192.0.2.7", "device")
    assert await lockouts.list() == []
    with pytest.raises(NotFound):
        await lockouts.lift(ANA, "192.0.2.7", "device")


async def test_a_pattern_that_nothing_enforces_is_refused(harness: Harness) -> None:
    with pytest.raises(InvalidInput, match=r"subject_pattern: .*policy\.order"):
        await passwords(harness, patterns_are_enforced=False).create(
            ANA, [OtpWanted(entity_id="a", subject_pattern="x")]
        )


async def test_a_broken_off_revocation_keeps_what_it_did_and_goes_on_when_repeated(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kipuka_core.domain.admin.certificates._CHUNK", 2)
    for _ in range(5):
        await harness.enrol(make_csr(), token=await harness.otp())
    query = CertificateQuery(identity="device")
    administration = certificates(harness)

    class Trips:
        """A store that is away after the second chunk."""

        chunks = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(harness.store, name)

        async def revoke_certificates(self, *arguments: Any, **more: Any) -> None:
            self.chunks += 1
            if self.chunks > 2:
                raise asyncio.CancelledError
            await harness.store.revoke_certificates(*arguments, **more)

    broken: Any = Trips()
    with pytest.raises(asyncio.CancelledError):
        await replace(administration, store=broken).revoke_by_query(
            ANA, query, RevocationReason.superseded, dry_run=False
        )
    assert len(await facts(harness, "certificate_revoked")) == 4
    rest = await administration.revoke_by_query(ANA, query, RevocationReason.superseded, dry_run=False)
    assert (rest.count, rest.remaining) == (1, 0)
    assert len({each["serial"] for each in await facts(harness, "certificate_revoked")}) == 5
    with pytest.raises(InvalidInput, match="filter"):
        await administration.revoke_by_query(ANA, CertificateQuery(), RevocationReason.superseded, dry_run=True)


class Changing(Policy):
    """Lets wait, then says something else."""

    verdict: Verdict = Wait("look at it")

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        return self.verdict


async def test_a_policy_that_objects_at_approval_is_a_conflict_and_the_request_goes_on_waiting(
    harness: Harness,
) -> None:
    changing = Changing()
    harness.policies = [NamedPolicy("changing", changing)]
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    assert isinstance(await harness.road.enrol(request), Wait)
    stored = await requests(harness).one(request.request_id)
    trace = await requests(harness).trace(stored)
    assert trace.assessment is not None
    assert trace.assessment.verdicts == (("changing", Wait("look at it")),)
    assert trace.refusal == ""

    changing.verdict = Deny(DenyKind.PERMISSION, "not any more")
    assert (await requests(harness).trace(stored)).refusal == "not any more"
    with pytest.raises(Conflict, match="not any more"):
        await requests(harness).approve(ANA, request.request_id)
    assert (await requests(harness).one(request.request_id)).state is RequestState.WAITING

    changing.verdict = Allow()
    issued = await requests(harness).approve(ANA, request.request_id)
    assert isinstance(issued, Issued)
    assert await harness.enrol(csr, token=token) == issued.certificate


async def test_two_administrators_at_once_issue_one_certificate(harness: Harness) -> None:
    harness.label(approval=True)
    request = harness.request(make_csr(), token=await harness.otp())
    assert await harness.road.enrol(request) == Wait("an administrator has to approve this request", 60)
    outcomes = await asyncio.gather(
        *(requests(harness).approve(ANA, request.request_id) for _ in range(3)), return_exceptions=True
    )
    issued = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(issued) == 1
    assert {type(each) for each in outcomes if isinstance(each, BaseException)} == {Conflict}
    assert await harness.record_count() == 1
    assert len(await facts(harness, "request_decided")) == 1


async def test_two_administrators_of_one_process_sign_once(harness: Harness) -> None:
    harness.label(approval=True)
    request = harness.request(make_csr(), token=await harness.otp())
    await harness.road.enrol(request)
    administration = requests(harness)
    outcomes = await asyncio.gather(
        *(administration.approve(ANA, request.request_id) for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in outcomes) == ["Conflict", "Conflict", "Issued"]
    assert [event.name for event in harness.sink.events].count("certificate_issued") == 1


async def test_an_approval_goes_on_when_its_administrator_hangs_up(harness: Harness) -> None:
    harness.label(approval=True)
    request = harness.request(make_csr(), token=await harness.otp())
    await harness.road.enrol(request)
    administration = requests(harness)
    approvals = administration.approvals
    assert approvals is not None
    approving = asyncio.create_task(administration.approve(ANA, request.request_id))
    while not approvals.road._running:  # noqa: ASYNC110  # as soon as the approval is under way
        await asyncio.sleep(0)
    approving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await approving
    await approvals.road.drain()
    assert await harness.record_count() == 1
    assert (await administration.one(request.request_id)).state is RequestState.ISSUED


async def test_a_rejection_is_heard_by_the_sinks_and_done_without_them(harness: Harness) -> None:
    harness.label(approval=True)
    first, second = [harness.request(make_csr(), token=await harness.otp()) for _ in range(2)]
    for request in (first, second):
        await harness.road.enrol(request)
    await requests(harness).reject(ANA, first.request_id, "no")
    harness.sink.broken = True
    await requests(harness).reject(ANA, second.request_id, "no")
    assert [event.name for event in harness.sink.events].count("request_decided") == 1
    assert len(await facts(harness, "request_decided")) == 2


async def test_a_chain_is_found_among_what_the_ca_has(harness: Harness) -> None:
    certificate = await harness.enrol(token=await harness.otp())
    administration = replace(certificates(harness), chain_of=lambda _: harness.ca.chain())
    record = await administration.one(f"{certificate.serial_number:X}")
    found: list[x509.Certificate] = await administration.chain(record)
    assert found == [certificate, *(await harness.ca.chain()).certificates]
    with pytest.raises(NotFound):
        await administration.chain(replace(record, issuer_key_id="00"))
    page = await administration.search(CertificateQuery(serial_hex=record.serial_hex), PageWanted())
    assert list(page.items) == [record]
