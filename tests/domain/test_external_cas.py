"""CAs outside this process: asked once, polled, lost and found, held for a person, given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.domain import external
from kipuka_core.domain.admin.waiting import RequestAdministration
from kipuka_core.domain.external import poll_pause_seconds
from kipuka_core.domain.judge import NamedPolicy
from kipuka_core.domain.ports import Policy
from kipuka_core.domain.pursuit import Pursuit
from kipuka_core.domain.telling import RevocationTeller
from kipuka_core.errors import (
    Conflict,
    CsrRefused,
    NotAllowed,
    NotIssued,
    OutcomeUnknown,
    PluginFailed,
    PostcheckFailed,
    RequestRefused,
    StoreUnavailable,
    Unavailable,
)
from kipuka_core.model.administrator import Administrator, Role
from kipuka_core.model.asked import Asked
from kipuka_core.model.certificate import Approved, CaChain, CaProfile, Issued, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import CertificateRevoked
from kipuka_core.model.fingerprints import issuer_key_id
from kipuka_core.model.record import RequestState, StoredRequest
from kipuka_core.model.verdict import Allow, Verdict, Wait
from kipuka_core.testing.pki import make_csr, make_key, make_root, name
from kipuka_core.wire.reader import WireReader
from tests.domain.harness import Harness, MemoryCa

Step = Wait | Exception | Callable[[Approved], x509.Certificate] | None
ANA = Administrator("ana", Role.OPERATOR)


class RemoteCa(MemoryCa):
    """A CA elsewhere, which does what its script says: refuse, wait, sign (None), or break after it has signed."""

    external: ClassVar[bool] = True

    def __init__(self, harness: Harness, *script: Step, finds: bool = True, revokes: bool = True) -> None:
        super().__init__(harness.ca.authority)
        self.harness = harness
        self.script = list(script)
        self.finds, self.revokes = finds, revokes
        self.by_request: dict[str, Approved] = {}
        self.certificates: dict[str, x509.Certificate] = {}
        self.polled: list[Asked] = []
        self.known_references: list[str] = []
        self.revoked: list[x509.Certificate] = []
        self.breaks_after_signing = False
        self.profile = CaProfile()

    @property
    def may_set(self) -> CaProfile:
        return self.profile

    async def issue(self, approved: Approved) -> Issued | Wait:
        self.by_request[approved.enrolment.request_id] = approved
        return self._step(approved)

    async def poll(self, asked: Asked) -> Issued | Wait:
        self.polled.append(asked)
        stored = await self.harness.store.get_request(asked.request_id)
        assert stored is not None
        assert stored.at_ca is not None
        self.known_references.append(stored.at_ca.reference)
        if asked.request_id in self.certificates:
            return Issued(self.certificates[asked.request_id])
        if not asked.reference and not self.script:
            raise NotIssued("nobody asked for it")
        return self._step(self.by_request[asked.request_id])

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        self.revoked.append(certificate)

    def _step(self, approved: Approved) -> Issued | Wait:
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Wait):
            return step
        if isinstance(step, Exception) and not self.breaks_after_signing:
            raise step
        certificate = step(approved) if callable(step) else self.sign(approved)
        self.issued.append(certificate)
        self.certificates[approved.enrolment.request_id] = certificate
        if isinstance(step, Exception):
            raise step
        return Issued(certificate)


def pursuit_of(harness: Harness, **patience: timedelta) -> Pursuit:
    road = harness.road
    return Pursuit(issuance=road.issuance, labels=harness.labels, reader=road.reader, patience=patience)


def desk_of(harness: Harness) -> RequestAdministration:
    return RequestAdministration(
        store=harness.store,
        clock=lambda: harness.now,
        reader=WireReader(),
        approvals=harness.approvals,
        pursuit=pursuit_of(harness),
    )


async def later(harness: Harness, seconds: int = 3600) -> None:
    """After so long somebody looks."""
    harness.now += timedelta(seconds=seconds)
    await pursuit_of(harness).look(harness.now)


def names_of(harness: Harness) -> list[str]:
    return [event.name for event in harness.sink.events]


async def stored_of(harness: Harness, request_id: str) -> StoredRequest:
    stored = await harness.store.get_request(request_id)
    assert stored is not None
    return stored


# -- waiting -----------------------------------------------------------------------------------------------------------
async def test_a_request_that_waits_at_the_ca_is_polled_and_fetched_by_its_client(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, Wait("in the queue", 30, "order-1"), Wait("still", 300, "order-1"))
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    assert await harness.road.enrol(request) == Wait("in the queue", 30)
    assert await harness.road.enrol(harness.request(csr, token=token)) == Wait("in the queue", 30)
    assert (len(ca.by_request), ca.polled) == (1, [])
    await later(harness, 29)
    assert ca.polled == []  # not before the CA wants
    await later(harness, 1)
    assert [each.reference for each in ca.polled] == ["order-1"]
    await later(harness, 299)
    assert len(ca.polled) == 1
    assert await harness.road.enrol(harness.request(csr, token=token)) == Wait("still", 300)
    await later(harness, 1)
    assert len(ca.polled) == 2
    harness.now += timedelta(days=3)
    assert await harness.enrol(csr, token=token) == ca.issued[0]
    assert (len(ca.issued), await harness.uses(token)) == (1, 1)
    assert names_of(harness).count("enrolment_waiting") == 1
    assert names_of(harness).count("certificate_issued") == 1


async def test_what_the_ca_calls_it_is_on_record_before_each_step(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, Wait("", 0, "order-1"), Wait("", 0, "order-1#finalised"))
    await harness.enrol(token=await harness.otp())
    assert ca.known_references == ["order-1", "order-1#finalised"]
    assert "enrolment_waiting" not in names_of(harness)


async def test_a_ca_that_always_says_at_once_is_made_to_wait(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, *[Wait("soon", 0, "x")] * 100)
    assert await harness.road.enrol(harness.request(token=await harness.otp())) == Wait("soon", 60)
    assert len(ca.polled) < 30


async def test_a_step_that_breaks_leaves_the_request_pending(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, Wait("asked", 0, "order-1"), ConnectionError("gone"))
    token, csr = await harness.otp(), make_csr()
    assert await harness.road.enrol(harness.request(csr, token=token)) == Wait("asked", 60)
    await later(harness)
    assert await harness.enrol(csr, token=token) == ca.issued[0]


async def test_the_ca_s_refusal_later_is_the_client_s(harness: Harness) -> None:
    harness.ca = RemoteCa(harness, Wait("asked", 30, "order-1"), NotAllowed("that name is not yours"))
    token, csr = await harness.otp(), make_csr()
    await harness.road.enrol(harness.request(csr, token=token))
    await later(harness)
    with pytest.raises(NotAllowed, match="that name is not yours"):
        await harness.road.enrol(harness.request(csr, token=token))
    assert await harness.uses(token) == 0
    await harness.enrol(token=token)  # another CSR


async def test_the_ca_s_refusal_at_once_is_the_client_s_and_forgotten(harness: Harness) -> None:
    harness.ca = RemoteCa(harness, CsrRefused("such keys are not certified"), Wait("", 0, "a"), NotAllowed("no"))
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    with pytest.raises(CsrRefused, match="such keys"):
        await harness.road.enrol(request)
    assert await harness.store.get_request(request.request_id) is None
    with pytest.raises(NotAllowed, match="no"):
        await harness.road.enrol(harness.request(csr, token=token))


async def test_an_approved_request_may_wait_at_the_ca_as_well(harness: Harness) -> None:
    harness.label(approval=True)
    harness.ca = ca = RemoteCa(harness, Wait("queued", 30, "order-1"))
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    await harness.road.enrol(request)
    assert await desk_of(harness).approve(ANA, request.request_id) == Wait("queued", 30)
    assert (await stored_of(harness, request.request_id)).state is RequestState.PENDING
    with pytest.raises(Conflict, match="it is pending"):
        await desk_of(harness).approve(ANA, request.request_id)
    await later(harness)
    assert await harness.enrol(csr, token=token) == ca.issued[0]
    assert "request_decided" in names_of(harness)


# -- outcomes that are not known ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "error", [ConnectionError("reset"), OutcomeUnknown("no answer"), KeyError("garbage")], ids=repr
)
async def test_a_lost_answer_is_found_and_nothing_is_asked_for_twice(harness: Harness, error: Exception) -> None:
    harness.ca = ca = RemoteCa(harness, error)
    ca.breaks_after_signing = True
    token, csr = await harness.otp(), make_csr()
    with pytest.raises(Unavailable, match="no clear answer") as refused:
        await harness.road.enrol(harness.request(csr, token=token))
    assert refused.value.code == "ca_outcome_unknown"
    with pytest.raises(Unavailable, match="with the certification authority"):
        await harness.road.enrol(harness.request(csr, token=token))
    await later(harness)
    fetched = await harness.store._read(
        lambda batch: batch.connection.exec_driver_sql("SELECT state, fetched_at FROM requests").all()
    )
    assert fetched == [("issued", None)]  # it is kept for its client, however late that comes
    assert await harness.enrol(csr, token=token) == ca.issued[0]
    assert (len(ca.issued), len(ca.by_request), await harness.uses(token)) == (1, 1, 1)


async def test_a_backend_that_looks_is_told_when_it_was_asked(harness: Harness) -> None:
    """By that it knows whether a request may be under way yet."""
    harness.ca = ca = RemoteCa(harness, ConnectionError("lost on the way"))
    asked_at = harness.now
    with pytest.raises(Unavailable):
        await harness.road.enrol(harness.request(token=await harness.otp()))
    await later(harness)
    assert [asked.asked_at for asked in ca.polled] == [asked_at]


async def test_a_request_that_never_arrived_may_be_made_again(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, ConnectionError("lost on the way"))
    token, csr = await harness.otp(), make_csr()
    with pytest.raises(Unavailable):
        await harness.road.enrol(harness.request(csr, token=token))
    await later(harness)
    assert await harness.enrol(csr, token=token) == ca.issued[0]
    assert len(ca.by_request) == 2


async def test_a_pending_request_that_the_ca_has_lost_is_refused(harness: Harness) -> None:
    harness.ca = RemoteCa(harness, Wait("asked", 30, "order-1"), NotIssued("there is no such order any more"))
    token, csr = await harness.otp(), make_csr()
    await harness.road.enrol(harness.request(csr, token=token))
    await later(harness)
    with pytest.raises(NotAllowed, match="no such order"):
        await harness.road.enrol(harness.request(csr, token=token))


async def test_the_database_away_after_the_ca_has_issued_loses_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(request_id: str, certificate_der: bytes) -> None:
        raise StoreUnavailable("disk full")

    harness.ca = ca = RemoteCa(harness)
    token, csr = await harness.otp(), make_csr()
    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "keep_answer", away)
        with pytest.raises(StoreUnavailable):
            await harness.road.enrol(harness.request(csr, token=token))
    await later(harness)
    assert await harness.enrol(csr, token=token) == ca.issued[0]
    assert len(ca.issued) == 1


async def test_an_answer_that_could_not_be_announced_is_kept_and_not_asked_for_again(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, finds=False)
    token, csr = await harness.otp(), make_csr()
    harness.sink.broken = True
    with pytest.raises(Unavailable, match="audit log"):
        await harness.road.enrol(harness.request(csr, token=token))
    await later(harness)  # the sink still fails
    with pytest.raises(Unavailable, match="with the certification authority"):
        await harness.road.enrol(harness.request(csr, token=token))
    harness.sink.broken = False
    await later(harness)
    assert await harness.enrol(csr, token=token) == ca.issued[0]
    assert (len(ca.issued), ca.polled) == (1, [])


async def test_a_request_that_is_being_asked_for_is_left_alone(harness: Harness) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    class Slow(RemoteCa):
        async def issue(self, approved: Approved) -> Issued | Wait:
            started.set()
            await go.wait()
            return await super().issue(approved)

    harness.ca = ca = Slow(harness)
    enrolling = asyncio.create_task(harness.road.enrol(harness.request(token=await harness.otp())))
    await started.wait()
    await later(harness, int(harness.timeout_seconds))
    go.set()
    assert isinstance(await enrolling, Issued)
    assert ca.polled == []


async def test_what_two_have_found_is_recorded_once_and_not_revoked(harness: Harness) -> None:
    """As when a process that was thought to be gone comes back."""
    harness.ca = ca = RemoteCa(harness, Wait("asked", 30, "order-1"))
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    await harness.road.enrol(request)
    stored = await stored_of(harness, request.request_id)
    harness.now += timedelta(hours=1)
    await asyncio.gather(*(pursuit_of(harness)._one(stored, harness.now) for _ in range(3)))
    assert (ca.revoked, await harness.record_count(), await harness.uses(token)) == ([], 1, 1)
    assert await harness.enrol(csr, token=token) == ca.issued[0]


async def test_steps_that_take_long_are_left_alone(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.0]
    due: list[datetime | None] = []

    class Slow(RemoteCa):
        async def poll(self, asked: Asked) -> Issued | Wait:
            stored = await stored_of(harness, asked.request_id)
            due.append(stored.at_ca.next_poll_at if stored.at_ca else None)
            seconds[0] += 100
            return await super().poll(asked)

    monkeypatch.setattr(external, "_ticks", lambda: seconds[0])
    harness.ca = Slow(harness, Wait("", 0, "a"), Wait("", 0, "b"))
    await harness.enrol(token=await harness.otp())
    first, second = due
    assert first is not None
    assert second is not None
    assert second - first == timedelta(seconds=100)


async def test_of_two_processes_one_looks(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, Wait("asked", 30, "order-1"), Wait("still", 30, "order-1"))
    await harness.road.enrol(harness.request(token=await harness.otp()))
    harness.now += timedelta(hours=1)
    looked = await asyncio.gather(*(pursuit_of(harness).look(harness.now) for _ in range(5)))
    assert (sum(looked), len(ca.polled)) == (1, 1)


def test_pauses_grow_and_the_ca_s_wish_counts() -> None:
    assert [poll_pause_seconds(None, polls) for polls in (0, 1, 2, 3, 12, 1000)] == [5, 10, 20, 40, 3600, 3600]
    assert poll_pause_seconds(7200, 0) == 7200


# -- held for a person -------------------------------------------------------------------------------------------------
async def held(harness: Harness, **options: Any) -> tuple[RemoteCa, bytes, str, str]:
    """A request whose outcome is unknown at a CA that cannot be asked."""
    harness.ca = ca = RemoteCa(harness, OutcomeUnknown("no answer"), finds=False)
    ca.breaks_after_signing = options.get("signs", False)
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    with pytest.raises(Unavailable):
        await harness.road.enrol(request)
    await later(harness)
    return ca, csr, token, request.request_id


async def test_where_the_ca_cannot_be_asked_a_person_has_to_say(harness: Harness) -> None:
    ca, csr, token, request_id = await held(harness)
    assert ca.polled == []
    assert "request_held" in names_of(harness)
    stored = await stored_of(harness, request_id)
    assert (stored.state, stored.at_ca and stored.at_ca.next_poll_at) == (RequestState.INTENT, None)
    await desk_of(harness).settle(ANA, request_id, None)
    assert await harness.enrol(csr, token=token) == ca.issued[0]


async def test_after_a_crash_a_request_at_a_ca_that_cannot_be_asked_is_held(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(request_id: str, certificate_der: bytes) -> None:
        raise StoreUnavailable("as if the process had ended")

    harness.ca = ca = RemoteCa(harness, finds=False)
    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "keep_answer", crash)
        with pytest.raises(StoreUnavailable):
            await harness.road.enrol(harness.request(token=await harness.otp()))
    await later(harness)
    assert ca.polled == []
    assert "request_held" in names_of(harness)


async def test_the_certificate_that_a_person_brings_has_to_be_what_was_approved(harness: Harness) -> None:
    ca, csr, token, request_id = await held(harness, signs=True)
    (certificate,) = ca.issued
    approved = ca.by_request[request_id]
    other = ca.sign(approved, subject=x509.Name([]))
    with pytest.raises(Conflict, match="not what was approved: it has another subject"):
        await desk_of(harness).settle(ANA, request_id, other)
    assert ca.revoked == []
    await desk_of(harness).settle(ANA, request_id, certificate)
    assert await harness.enrol(csr, token=token) == certificate
    assert len(ca.by_request) == 1
    with pytest.raises(Conflict, match="it is issued"):
        await desk_of(harness).settle(ANA, request_id, None)


async def test_a_pending_request_can_be_settled_too(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, Wait("asked", 3600, "order-1"))
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    await harness.road.enrol(request)
    await desk_of(harness).settle(ANA, request.request_id, None)
    assert await harness.enrol(csr, token=token) == ca.issued[0]


async def test_a_ca_that_is_not_configured_any_more_holds_its_requests(harness: Harness) -> None:
    harness.ca = RemoteCa(harness, Wait("asked", 30, "order-1"))
    request = harness.request(token=await harness.otp())
    await harness.road.enrol(request)
    harness.now += timedelta(hours=1)
    pursuit = pursuit_of(harness)
    without = Pursuit(
        issuance=type(pursuit.issuance)({}, harness.guard, harness.store, harness.events),
        labels=harness.labels,
        reader=WireReader(),
        patience={},
    )
    await without.look(harness.now)
    assert "request_held" in names_of(harness)


async def test_a_label_that_is_gone_stops_nobody_else(harness: Harness) -> None:
    harness.label("gone")
    harness.ca = RemoteCa(harness, Wait("asked", 30, "order-1"), Wait("asked", 30, "order-2"))
    await harness.road.enrol(harness.request(token=await harness.otp(), label="gone"))
    token, csr = await harness.otp(), make_csr()
    await harness.road.enrol(harness.request(csr, token=token))
    del harness.labels["gone"]
    await later(harness)
    await harness.enrol(csr, token=token)


@pytest.mark.parametrize("reference", ["order-1", ""])
async def test_a_request_is_given_up_in_the_end(harness: Harness, reference: str) -> None:
    away = [Unavailable("away")] * 50
    first = [Wait("asked", 30, reference)] if reference else [OutcomeUnknown("no answer")]
    harness.ca = RemoteCa(harness, *first, *away)
    token, csr = await harness.otp(), make_csr()
    try:
        await harness.road.enrol(harness.request(csr, token=token))
    except Unavailable:
        assert not reference
    for hours in (1, 23, 2):
        harness.now += timedelta(hours=hours)
        await pursuit_of(harness, default=timedelta(days=1)).look(harness.now)
    if reference:
        with pytest.raises(NotAllowed, match="did not decide in time"):
            await harness.road.enrol(harness.request(csr, token=token))
    else:
        assert "request_held" in names_of(harness)


# -- what must not be used ---------------------------------------------------------------------------------------------
def _with_another_key(approved: Approved, ca: RemoteCa) -> x509.Certificate:
    spki_der = (
        make_key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return ca.sign(approved, spki_der=spki_der)


WRONG: dict[str, Callable[[Approved, RemoteCa], x509.Certificate]] = {
    "another public key": _with_another_key,
    "a CA certificate": lambda approved, ca: ca.sign(approved, ca=True),
    "another SubjectAltName": lambda approved, ca: ca.sign(approved, san=(x509.DNSName("bank.example"),)),
    "not signed by the CA": lambda approved, ca: ca.sign(approved, key=make_key()),
    "valid for longer": lambda approved, ca: ca.sign(
        approved, not_after=approved.template.not_after + timedelta(days=1)
    ),
    "other extensions": lambda approved, ca: ca.sign(
        approved,
        extensions=(x509.Extension(x509.TLSFeature.oid, False, x509.TLSFeature([x509.TLSFeatureType.status_request])),),
    ),
}


@pytest.mark.parametrize("revokes", [True, False])
@pytest.mark.parametrize("detail", WRONG)
async def test_what_was_not_approved_is_not_handed_out(harness: Harness, detail: str, revokes: bool) -> None:
    harness.ca = ca = RemoteCa(harness, revokes=revokes)
    ca.script.append(lambda approved: WRONG[detail](approved, ca))
    token, csr = await harness.otp(), make_csr()
    request = harness.request(csr, token=token)
    with pytest.raises(PostcheckFailed) as refused:
        await harness.road.enrol(request)
    assert detail in refused.value.detail
    (event,) = [each for each in harness.sink.events if each.name == "certificate_discarded"]
    facts = event.as_dict()
    assert x509.load_pem_x509_certificate(facts["certificate"].encode()) == ca.issued[0]
    assert (facts["revoked"], ca.revoked) == (revokes, ca.issued if revokes else [])
    assert detail in facts["reason"]
    with pytest.raises(NotAllowed, match="did not issue what was approved"):
        await harness.road.enrol(harness.request(csr, token=token))  # and nobody asks the CA again
    assert (len(ca.issued), await harness.record_count(), await harness.uses(token)) == (1, 0, 0)
    await desk_of(harness).settle(ANA, request.request_id, None)  # once the CA is set right
    await harness.enrol(csr, token=token)


async def test_a_wrong_certificate_that_is_polled_is_not_handed_out_either(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, Wait("asked", 30, "order-1"))
    ca.script.append(lambda approved: ca.sign(approved, ca=True))
    token, csr = await harness.otp(), make_csr()
    await harness.road.enrol(harness.request(csr, token=token))
    await later(harness)
    with pytest.raises(NotAllowed):
        await harness.road.enrol(harness.request(csr, token=token))
    assert ca.revoked == ca.issued


async def test_an_issuer_that_came_after_the_request_is_good_when_the_ca_says_so(harness: Harness) -> None:
    newer = make_root("Newer CA")

    class RolledOver(RemoteCa):
        async def chain(self) -> CaChain:
            return CaChain(certificates=self.authority.chain, previous=(newer.certificate,))

    harness.ca = ca = RolledOver(harness)
    ca.script.append(lambda approved: MemoryCa(newer).sign(approved))
    certificate = await harness.enrol(token=await harness.otp())
    assert certificate.issuer == newer.certificate.subject


# -- what the CA decides by itself -------------------------------------------------------------------------------------
class _Looks(Policy):
    """Remembers what it judged."""

    def __init__(self) -> None:
        self.judged: list[Template] = []

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        self.judged.append(template)
        return Allow()


OWN_OID = "1.3.6.1.4.1.99999.7"
PROFILE = CaProfile(
    validity=timedelta(days=90),
    key_usage=frozenset({"digitalSignature", "keyEncipherment"}),
    ext_key_usage=("1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"),
    subject_attributes=("2.5.4.3",),
    extensions=(OWN_OID,),
)


def _as_declared(approved: Approved, ca: RemoteCa, **changes: Any) -> x509.Certificate:
    oid = x509.ObjectIdentifier(OWN_OID)
    own = x509.Extension(oid, False, x509.UnrecognizedExtension(oid, b"\x05\x00"))
    start = approved.template.not_before - timedelta(hours=1)
    values = {"not_before": start, "not_after": start + timedelta(days=90), "extensions": (own,)} | changes
    return ca.sign(approved, **values)


async def test_policies_judge_what_the_ca_will_make_of_it_and_that_is_what_may_come_back(harness: Harness) -> None:
    looks = _Looks()
    harness.policies.append(NamedPolicy("looks", looks))
    harness.label(rules={"accept_ca_profile": True, "ext_key_usage": PROFILE.ext_key_usage or ()})
    harness.ca = ca = RemoteCa(harness)
    ca.profile = PROFILE
    ca.script.append(lambda approved: _as_declared(approved, ca))
    certificate = await harness.enrol(make_csr(subject=name("device", O="Example")), token=await harness.otp())
    (judged,) = looks.judged
    assert judged.subject.rfc4514_string() == certificate.subject.rfc4514_string() == "CN=device"
    assert (judged.key_usage, judged.ext_key_usage) == (PROFILE.key_usage, PROFILE.ext_key_usage)
    assert judged.not_after - judged.not_before == PROFILE.validity


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"not_after": 91}, "valid for longer"),
        ({"not_before": -20, "not_after": 75}, "valid for longer than its CA was said to issue for"),
        ({"key_usage": frozenset({"digitalSignature"})}, "another key usage"),
        ({"ext_key_usage": ("1.3.6.1.5.5.7.3.2",)}, "another extended key usage"),
        ({"subject": x509.Name([])}, "another subject"),
        ({"extensions": (x509.Extension(x509.OCSPNoCheck.oid, False, x509.OCSPNoCheck()),)}, "other extensions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_was_not_declared_is_refused(harness: Harness, changes: dict[str, Any], detail: str) -> None:
    harness.label(rules={"accept_ca_profile": True, "ext_key_usage": PROFILE.ext_key_usage or ()})
    harness.ca = ca = RemoteCa(harness)
    ca.profile = PROFILE

    def wrong(approved: Approved) -> x509.Certificate:
        start = approved.template.not_before
        moments = {"not_before", "not_after"}
        given = {name: start + timedelta(days=each) if name in moments else each for name, each in changes.items()}
        return _as_declared(approved, ca, **given)

    ca.script.append(wrong)
    with pytest.raises(RequestRefused) as refused:
        await harness.enrol(token=await harness.otp())
    assert isinstance(refused.value, PostcheckFailed)
    assert detail in refused.value.detail


async def test_a_ca_in_this_process_cannot_wait(harness: Harness) -> None:
    class Waits(MemoryCa):
        async def issue(self, approved: Approved) -> Issued | Wait:
            return Wait("later", 5, "x")

    harness.ca = Waits(harness.ca.authority)
    with pytest.raises(PluginFailed):
        await harness.enrol(token=await harness.otp())


# -- revocations are told ----------------------------------------------------------------------------------------------
async def _revoke(harness: Harness, certificate: x509.Certificate, reason: int = 1) -> None:
    await harness.store.revoke_certificate(
        issuer_key_id(harness.ca.authority.certificate),
        f"{certificate.serial_number:x}",
        reason=reason,
        now=harness.now,
        event=CertificateRevoked(time=harness.now, serial=f"{certificate.serial_number:x}", ca_id="default"),
    )


def teller_of(harness: Harness) -> RevocationTeller:
    cas = {"default": harness.ca}
    return RevocationTeller(cas=cas, guard=harness.guard, store=harness.store, events=harness.events)


async def test_what_is_revoked_here_is_revoked_there_once(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness)
    first, second = [await harness.enrol(token=await harness.otp()) for _ in range(2)]
    await teller_of(harness).look(harness.now)
    assert ca.revoked == []
    await _revoke(harness, first)
    for _ in range(3):
        await teller_of(harness).look(harness.now)  # another process, or after a restart
    assert ca.revoked == [first]
    await _revoke(harness, second)
    await teller_of(harness).look(harness.now)
    assert ca.revoked == [first, second]
    assert [each.as_dict()["done"] for each in harness.sink.events if each.name == "revocation_forwarded"] == [True] * 2


async def test_a_ca_that_is_away_is_told_later_and_one_that_refuses_is_not_asked_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Exception] = [Unavailable("away"), NotAllowed("it is not ours")]
    asked_for: list[x509.Certificate] = []

    async def revoke(certificate: x509.Certificate, _reason: int) -> None:
        asked_for.append(certificate)
        raise answers.pop(0)

    harness.ca = ca = RemoteCa(harness)
    certificate = await harness.enrol(token=await harness.otp())
    await _revoke(harness, certificate)
    monkeypatch.setattr(ca, "revoke", revoke)
    teller = teller_of(harness)
    for seconds in (0, 29, 1, 60, 60):
        harness.now += timedelta(seconds=seconds)
        await teller.look(harness.now)
    assert asked_for == [certificate] * 2
    (event,) = [each.as_dict() for each in harness.sink.events if each.name == "revocation_forwarded"]
    assert (event["done"], event["reason"]) == (False, "it is not ours")


async def test_a_ca_that_cannot_revoke_is_not_told(harness: Harness) -> None:
    harness.ca = ca = RemoteCa(harness, revokes=False)
    await _revoke(harness, await harness.enrol(token=await harness.otp()))
    await teller_of(harness).look(harness.now)
    assert ca.revoked == []
