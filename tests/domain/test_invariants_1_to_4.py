"""Invariants 1 to 4 of the architecture (docs/architecture.md), at least one test each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, cast

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.domain.judge import NamedPolicy
from kipuka_core.domain.ports import Authenticator, Policy
from kipuka_core.errors import (
    PluginFailed,
    PostcheckFailed,
    StoreUnavailable,
    Unavailable,
)
from kipuka_core.model.certificate import Approved, Issued, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import Event
from kipuka_core.model.identity import ClientIdentity, Offer
from kipuka_core.model.record import RecordedCertificate, RequestState, StoredRequest
from kipuka_core.model.verdict import Verdict, Wait
from kipuka_core.testing.pki import general_name, make_csr, make_key, name
from tests.domain.harness import Harness, MemoryCa


# -- 1. Nothing changes the template after it was judged --
class _Meddling(Policy):
    """Tries to give itself another subject while it judges."""

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        object.__setattr__(template, "subject", name("somebody-else"))
        return await super().decide(template, enrolment)


async def test_1_a_policy_that_changes_the_template_while_judging_is_a_refusal(harness: Harness) -> None:
    harness.policies.append(NamedPolicy("meddling", _Meddling()))
    with pytest.raises(PluginFailed, match="could not process"):
        await harness.enrol(token=await harness.otp())
    assert harness.ca.issued == []


class _SelfWilled(MemoryCa):
    """Issues something else than what was approved."""

    changes: ClassVar[dict[str, Any]] = {}

    async def issue(self, approved: Approved) -> Issued | Wait:
        return Issued(self.sign(approved, **self.changes))


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"subject": name("somebody-else")}, "another subject"),
        ({"san": (general_name("dns:other.example"),)}, "another SubjectAltName"),
        ({"key_usage": frozenset({"digitalSignature", "keyAgreement"})}, "another key usage"),
        ({"ext_key_usage": (ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,)}, "another extended key usage"),
        ({"ca": True}, "a CA certificate"),
        ({"key": make_key()}, "not signed by the CA"),
        ({"extensions": (x509.Extension(x509.OID_OCSP_NO_CHECK, False, x509.OCSPNoCheck()),)}, "other extensions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_1_what_the_ca_changed_after_the_judgement_never_leaves(
    harness: Harness, changes: dict[str, Any], detail: str
) -> None:
    harness.ca = _SelfWilled(harness.ca.authority)
    harness.ca.changes = changes  # type: ignore[misc]  # one set of changes per instance
    token = await harness.otp()
    with pytest.raises(PostcheckFailed) as refusal:
        await harness.enrol(make_csr(san=["dns:device"]), token=token)
    assert detail in refusal.value.detail
    assert await harness.record_count() == 0
    assert await harness.uses(token) == 0


class _Retouching(MemoryCa):
    """Writes into the approved template and then issues what it wrote."""

    async def issue(self, approved: Approved) -> Issued | Wait:
        object.__setattr__(approved.template, "not_after", approved.template.not_after + timedelta(days=1))
        return Issued(self.sign(approved))


async def test_1_a_ca_that_writes_into_the_approved_template_is_found_out(harness: Harness) -> None:
    harness.ca = _Retouching(harness.ca.authority)
    with pytest.raises(PostcheckFailed):
        await harness.enrol(token=await harness.otp())


# -- 2. No certificate leaves before its record is durable; an external CA is asked after a durable intent --
async def test_2_a_certificate_whose_record_fails_does_not_leave(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(record: RecordedCertificate, event: Event) -> None:
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(harness.store, "commit", fail, raising=True)
    token = await harness.otp()
    with pytest.raises(StoreUnavailable):
        await harness.enrol(token=token)
    assert len(harness.ca.issued) == 1
    assert await harness.uses(token) == 0


class _External(MemoryCa):
    """Looks, when it is asked, what is on record by then."""

    external: ClassVar[bool] = True

    def __init__(self, harness: Harness) -> None:
        super().__init__(harness.ca.authority)
        self.harness = harness
        self.seen: list[StoredRequest | None] = []

    async def issue(self, approved: Approved) -> Issued | Wait:
        self.seen.append(await self.harness.store.get_request(approved.enrolment.request_id))
        return await super().issue(approved)


async def test_2_an_external_ca_is_asked_only_after_a_durable_intent(harness: Harness) -> None:
    harness.ca = external = _External(harness)
    await harness.enrol(token=await harness.otp())
    (intent,) = external.seen
    assert intent is not None
    assert intent.state is RequestState.INTENT


class _Away(_External):
    """Is away at first, or breaks."""

    def __init__(self, harness: Harness, error: Exception) -> None:
        super().__init__(harness)
        self.error: Exception | None = error

    async def issue(self, approved: Approved) -> Issued | Wait:
        if self.error is not None:
            raise self.error
        return await super().issue(approved)


async def test_2_an_external_ca_that_was_away_is_asked_again(harness: Harness) -> None:
    harness.ca = away = _Away(harness, Unavailable("the CA is away"))
    token, key = await harness.otp(), make_key()
    with pytest.raises(Unavailable, match="is away"):
        await harness.enrol(make_csr(key), token=token)
    away.error = None
    await harness.enrol(make_csr(key), token=token)
    assert await harness.uses(token) == 1


async def test_2_an_external_ca_whose_answer_is_unknown_is_not_asked_twice(harness: Harness) -> None:
    harness.ca = away = _Away(harness, ConnectionError("lost after sending"))
    token, key = await harness.otp(), make_key()
    with pytest.raises(Unavailable, match="no clear answer"):
        await harness.enrol(make_csr(key), token=token)
    away.error = None
    with pytest.raises(Unavailable, match="with the certification authority"):
        await harness.enrol(make_csr(key), token=token)
    assert away.issued == []


async def test_2_a_required_sink_that_fails_stops_issuance(harness: Harness) -> None:
    harness.sink.broken = True
    token = await harness.otp()
    with pytest.raises(Unavailable, match="audit log"):
        await harness.enrol(token=token)
    assert await harness.record_count() == 0
    harness.sink.broken = False
    await harness.enrol(token=token)


# -- 3. A client that hangs up mid-request changes nothing of 2 --
class _Slow(MemoryCa):
    """Signs only when it is let."""

    def __init__(self, harness: Harness) -> None:
        super().__init__(harness.ca.authority)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def issue(self, approved: Approved) -> Issued | Wait:
        self.asked.set()
        await self.go_on.wait()
        return await super().issue(approved)


async def test_3_a_client_that_hangs_up_while_the_ca_signs_leaves_a_complete_record(harness: Harness) -> None:
    harness.ca = slow = _Slow(harness)
    road, token = harness.road, await harness.otp()
    request = harness.request(token=token)
    client = asyncio.create_task(road.enrol(request))
    await slow.asked.wait()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    slow.go_on.set()
    await road.drain()
    assert await harness.record_count() == 1
    assert await harness.uses(token) == 1
    again = await road.enrol(replace(request, request_id="again"))
    assert isinstance(again, Issued)
    assert again.certificate == slow.issued[0]


# -- 4. A plugin that crashes, is late or returns the wrong type is a refusal --
async def _crash() -> Any:
    raise RuntimeError("password=hunter2")


async def _for_ever() -> Any:
    await asyncio.Event().wait()


async def _wrong_type() -> Any:
    return True


async def _cancel_itself() -> Any:
    raise asyncio.CancelledError


_MISTAKES: dict[str, Callable[[], Awaitable[Any]]] = {
    "crash": _crash,
    "late": _for_ever,
    "wrong type": _wrong_type,
    "cancels itself": _cancel_itself,
}


class _Careless(Authenticator, Policy):
    """Makes one mistake in one method."""

    def __init__(self, method: str, mistake: Callable[[], Awaitable[Any]]) -> None:
        self._method, self._mistake = method, mistake

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        return cast(
            "ClientIdentity", await self._maybe("authenticate", ClientIdentity(authenticator="x", entity_id="device"))
        )

    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        return cast("Template", await self._maybe("shape", template))

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        return cast("Verdict", await self._maybe("decide", await super().decide(template, enrolment)))

    async def _maybe(self, method: str, answer: Any) -> Any:
        return await self._mistake() if method == self._method else answer


@pytest.mark.parametrize("method", ["authenticate", "shape", "decide"])
@pytest.mark.parametrize("mistake", _MISTAKES)
async def test_4_a_careless_plugin_is_a_refusal_that_tells_the_client_nothing(
    harness: Harness, method: str, mistake: str
) -> None:
    harness.timeout_seconds = 0.2
    careless = _Careless(method, _MISTAKES[mistake])
    harness.authenticators = {"test": careless}
    harness.policies.append(NamedPolicy("careless", careless))
    with pytest.raises(PluginFailed) as refusal:
        await harness.enrol(token=await harness.otp())
    assert refusal.value.plugin in ("test", "careless")
    assert refusal.value.detail
    assert "hunter2" not in refusal.value.detail
    assert refusal.value.reason == "the server could not process this request"
    assert harness.ca.issued == []


async def test_4_a_careless_ca_is_a_refusal(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(approved: Approved) -> Any:
        return approved

    monkeypatch.setattr(harness.ca, "issue", wrong)
    token = await harness.otp()
    with pytest.raises(PluginFailed) as refusal:
        await harness.enrol(token=token)
    assert refusal.value.plugin == "default"
    assert await harness.uses(token) == 0
