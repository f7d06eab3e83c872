"""Invariants 5 to 9 of the architecture (docs/architecture.md), at least one test each."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.config import parse
from kipuka_core.domain.judge import NamedPolicy
from kipuka_core.domain.ports import Policy
from kipuka_core.domain.revival import enrolment_of
from kipuka_core.errors import (
    ConfigurationError,
    CsrRefused,
    NotAllowed,
    NotAuthenticated,
    RequestRefused,
    Unavailable,
)
from kipuka_core.model.certificate import Issued, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.event import Event
from kipuka_core.model.record import RecordedCertificate, StoredRequest
from kipuka_core.model.request import Operation
from kipuka_core.model.verdict import Deny, DenyKind, Verdict, Wait
from kipuka_core.testing.pki import make_csr, make_key, make_root
from tests.domain.harness import Harness, MemoryCa


# -- 5. A one-time password is used up exactly once, and only by an enrolment that succeeded --
async def test_5_a_refused_enrolment_leaves_the_password_and_a_successful_one_uses_it_up(harness: Harness) -> None:
    token = await harness.otp()
    with pytest.raises(CsrRefused):
        await harness.enrol(_asking(x509.BasicConstraints(ca=True, path_length=None)), token=token)
    assert await harness.uses(token) == 0
    key = make_key()
    first = await harness.enrol(make_csr(key), token=token)
    assert await harness.uses(token) == 1
    assert await harness.enrol(make_csr(key), token=token) == first  # a lost answer is not a lost device
    with pytest.raises(NotAuthenticated, match="used up"):
        await harness.enrol(token=token)
    harness.now += timedelta(minutes=11)
    with pytest.raises(NotAuthenticated, match="used up"):
        await harness.enrol(make_csr(key), token=token)
    assert await harness.record_count() == 1


async def test_5_fifty_uses_at_once_give_one_certificate(harness: Harness) -> None:
    road, token = harness.road, await harness.otp()
    requests = [road.enrol(harness.request(token=token)) for _ in range(50)]
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert sum(isinstance(outcome, Issued) for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, NotAuthenticated | Unavailable)]
    assert len(refused) == 49
    assert await harness.uses(token) == 1


async def test_5_a_request_that_was_served_meanwhile_is_answered_and_not_refused(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request on two connections: the second looks before the first is on record, and reserves after it."""
    token, csr = await harness.otp(), make_csr()
    certificate = await harness.enrol(csr, token=token)
    looked: list[None] = []
    look = harness.store.replayable

    async def as_before(otp_id: str, csr_fingerprint: str, since: datetime) -> RecordedCertificate | None:
        looked.append(None)
        return None if len(looked) == 1 else await look(otp_id, csr_fingerprint, since)

    monkeypatch.setattr(harness.store, "replayable", as_before)
    monkeypatch.setattr(harness.store, "find_request", _nothing)
    assert await harness.enrol(csr, token=token) == certificate
    assert (len(looked), await harness.uses(token), await harness.record_count()) == (2, 1, 1)


async def _nothing(_key: str) -> None:
    """What was remembered then."""


class _Waits(Policy):
    """Wants a person to look."""

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        return Wait("an operator has to look at this")


async def test_5_a_waiting_request_keeps_its_password_past_the_ttl_until_it_is_decided(harness: Harness) -> None:
    harness.policies.append(NamedPolicy("person", _Waits()))
    road, token, key = harness.road, await harness.otp(expires_at=harness.now + timedelta(hours=1)), make_key()
    request = harness.request(make_csr(key), token=token)
    assert isinstance(await road.enrol(request), Wait)
    with pytest.raises(Unavailable):
        await harness.enrol(token=token)  # another CSR: the password is spoken for
    harness.now += timedelta(days=3)
    polled = await road.enrol(harness.request(make_csr(key), token=token))
    assert polled == Wait("an operator has to look at this", 60)
    issued = await harness.approvals.approve(request.request_id, actor="ana", now=harness.now)
    assert await harness.uses(token) == 1
    assert isinstance(issued, Issued)
    assert await harness.enrol(make_csr(key), token=token) == issued.certificate


async def test_5_a_rejection_gives_the_password_back(harness: Harness) -> None:
    harness.policies.append(NamedPolicy("person", _Waits()))
    token, key = await harness.otp(), make_key()
    request = harness.request(make_csr(key), token=token)
    await harness.road.enrol(request)
    await harness.approvals.reject(request.request_id, actor="ana", now=harness.now, reason="not one of ours")
    with pytest.raises(NotAllowed, match="not one of ours"):
        await harness.enrol(make_csr(key), token=token)
    harness.policies.pop()
    await harness.enrol(token=token)


# -- 6. Zero authenticators or zero policies is a configuration error, never consent --
@pytest.mark.parametrize("table", ["auth", "policy"])
def test_6_an_empty_order_is_a_configuration_error(table: str) -> None:
    document = {"tls": {"cert": "a", "key": "b", "client_auth": {"mode": "none"}}, table: {"order": []}}
    with pytest.raises(ConfigurationError, match=rf"{table}\.order"):
        parse(document, Path(os.devnull))


async def test_6_a_label_that_nobody_answers_for_believes_nobody(harness: Harness) -> None:
    harness.label(rules={})
    harness.labels[""] = replace(harness.labels[""], auth_order=())
    with pytest.raises(NotAuthenticated):
        await harness.enrol(token=await harness.otp())


# -- 7. The direct path, the path after approval and the dry run use the same judging code --
class _FromNowOn(Policy):
    """Waits at first, and denies from the moment that ``denies`` is set; counts how often it was asked."""

    def __init__(self) -> None:
        self.denies = False
        self.asked = 0

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        self.asked += 1
        return Deny(DenyKind.PERMISSION, "no more") if self.denies else Wait("look first")


async def test_7_approval_and_dry_run_ask_the_same_policies_and_rules(harness: Harness) -> None:
    policy = _FromNowOn()
    harness.policies.append(NamedPolicy("from-now-on", policy))
    road = harness.road
    request = harness.request(token=await harness.otp())
    await road.enrol(request)
    assert policy.asked == 1
    stored = await harness.store.get_request(request.request_id)
    assert stored is not None
    enrolment = enrolment_of(stored, harness.labels, road.reader, harness.now)
    dry = await road.assess(enrolment)
    assert (policy.asked, dry.outcome()) == (2, Wait("look first"))
    policy.denies = True
    with pytest.raises(NotAllowed, match="no more"):
        await harness.approvals.approve(request.request_id, actor="ana", now=harness.now)
    assert policy.asked == 3
    with pytest.raises(NotAllowed, match="no more"):
        (await road.assess(enrolment)).outcome()
    assert harness.ca.issued == []


async def test_7_an_approval_does_not_lift_a_core_rule(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored CSR that became unacceptable (here: by hand) is judged by the core rules again."""
    harness.policies.append(NamedPolicy("person", _Waits()))
    request = harness.request(token=await harness.otp())
    await harness.road.enrol(request)
    stored = await harness.store.get_request(request.request_id)
    assert stored is not None
    worse = replace(stored, csr_der=_asking(x509.BasicConstraints(ca=True, path_length=None)))

    async def get_request(request_id: str) -> StoredRequest | None:
        return worse

    monkeypatch.setattr(harness.store, "get_request", get_request)
    with pytest.raises(CsrRefused, match="CA:TRUE"):
        await harness.approvals.approve(request.request_id, actor="ana", now=harness.now)


# -- 8. The core rules hold whatever is configured --
def _asking(*extensions: x509.ExtensionType) -> bytes:
    return make_csr(extensions=[(extension, False) for extension in extensions])


def _key_usage(**bits: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    more = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{bit: bits.get(bit, False) for bit in (*names, *more)})


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=True, path_length=None),
        _key_usage(digital_signature=True, key_cert_sign=True),
        _key_usage(digital_signature=True, crl_sign=True),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.NameConstraints([x509.DNSName("example")], None),
        x509.OCSPNoCheck(),
    ],
    ids=["ca", "keyCertSign", "cRLSign", "cmcRA", "OCSPSigning", "anyEKU", "serverAuth", "nameConstraints", "noCheck"],
)
async def test_8_authority_is_never_had_for_the_asking_with_every_policy_switched_off(
    harness: Harness, extension: x509.ExtensionType
) -> None:
    token = await harness.otp()
    with pytest.raises(CsrRefused):
        await harness.enrol(_asking(extension), token=token)
    assert harness.ca.issued == []
    assert await harness.uses(token) == 0


class _Generous(Policy):
    """A policy that gives away what no policy may give."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        return replace(template, **self.changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"key_usage": frozenset({"digitalSignature", "keyCertSign"})},
        {"ext_key_usage": ("1.3.6.1.5.5.7.3.28",)},
        {"ext_key_usage": ("1.3.6.1.5.5.7.3.9",)},
        {"ext_key_usage": ("2.5.29.37.0",)},
        {"ext_key_usage": ("1.3.6.1.5.5.7.3.1",)},
        {"extensions": (x509.Extension(x509.OID_BASIC_CONSTRAINTS, True, x509.BasicConstraints(True, None)),)},
        {"spki_der": b"another key"},
        {"subject": x509.Name([]), "san": ()},
    ],
    ids=["keyCertSign", "cmcRA", "OCSPSigning", "anyEKU", "serverAuth", "ca", "key", "nameless"],
)
async def test_8_no_policy_can_give_it_either(harness: Harness, changes: dict[str, Any]) -> None:
    harness.policies.append(NamedPolicy("generous", _Generous(**changes)))
    with pytest.raises(CsrRefused):
        await harness.enrol(token=await harness.otp())
    assert harness.ca.issued == []


async def test_8_no_certificate_outlives_its_issuer(harness: Harness) -> None:
    harness.ca = MemoryCa(make_root(days=10))
    certificate = await harness.enrol(token=await harness.otp())
    assert certificate.not_valid_after_utc == harness.ca.authority.certificate.not_valid_after_utc
    longer = harness.ca.authority.certificate.not_valid_after_utc + timedelta(days=1)
    harness.policies.append(NamedPolicy("generous", _Generous(not_after=longer)))
    with pytest.raises(CsrRefused, match="outlive"):
        await harness.enrol(token=await harness.otp())


async def test_8_a_certificate_of_one_label_is_nothing_at_another(harness: Harness) -> None:
    harness.label("a")
    harness.label("b")
    harness.label("c", accept_from=("a",))
    key = make_key()
    certificate = await harness.enrol(make_csr(key), token=await harness.otp(), label="a")
    chain = (certificate, *harness.ca.authority.chain)
    for label in ("b", ""):
        with pytest.raises(NotAllowed, match="another path"):
            await harness.enrol(make_csr(key), chain=chain, operation=Operation.SIMPLEREENROLL, label=label)
    await harness.enrol(make_csr(key), chain=chain, operation=Operation.SIMPLEREENROLL, label="a")
    await harness.enrol(make_csr(key), chain=chain, operation=Operation.SIMPLEREENROLL, label="c")


# -- 9. A resumed connection has no more rights than a fresh one; status is checked on every request --
async def test_9_the_status_of_the_certificate_counts_at_every_request(harness: Harness) -> None:
    """The part of invariant 9 that is the domain's; resumption itself is tested on real TLS in tests/edges/tls."""
    key = make_key()
    certificate = await harness.enrol(make_csr(key), token=await harness.otp())
    chain = (certificate, *harness.ca.authority.chain)
    renewed = await harness.enrol(make_csr(key), chain=chain, operation=Operation.SIMPLEREENROLL)
    (record,) = await harness.store.search_certificates(serial_hex=f"{certificate.serial_number:x}")
    event = Event(time=harness.now)
    await harness.store.revoke_certificate(
        record.issuer_key_id, record.serial_hex, reason=1, now=harness.now, event=event
    )
    with pytest.raises(NotAllowed, match="revoked"):
        await harness.enrol(make_csr(key), chain=chain, operation=Operation.SIMPLEREENROLL)
    again = (renewed, *harness.ca.authority.chain)
    await harness.enrol(make_csr(key), chain=again, operation=Operation.SIMPLEREENROLL)


async def test_a_refusal_names_who_was_refused(harness: Harness) -> None:
    with pytest.raises(RequestRefused) as refusal:
        await harness.enrol(_asking(x509.OCSPNoCheck()), token=await harness.otp())
    assert (refusal.value.actor, refusal.value.authenticator) == ("device", "test")
