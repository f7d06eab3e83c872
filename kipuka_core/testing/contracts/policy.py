"""What every policy has to do, whatever it decides.

class TestMyPolicy(PolicyContract):
    provider = PROVIDER
    settings = {"some": "setting"}
"""
# ruff: noqa: S101 - a contract suite is made of assertions

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kipuka_core.domain.judge import LONGEST_REASON
from kipuka_core.domain.ports import Policy
from kipuka_core.domain.rules import DECIDED_BY_TEMPLATE_FIELDS, NEVER_ISSUED_EKUS, NEVER_ISSUED_KEY_USAGES
from kipuka_core.hooks.provider import Services
from kipuka_core.model.certificate import CsrAttributes, Template, WantedExtension
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.key_type import KeyType
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.label import Label, SubjectBinding
from kipuka_core.model.request import Csr
from kipuka_core.model.verdict import Allow, Deny, Verdict, Wait
from kipuka_core.testing.contracts.asking import asked, cancelled_at_every_step, check_nothing_shows
from kipuka_core.testing.contracts.loop_turns import loop_goes_round
from kipuka_core.testing.contracts.port import PortContract
from kipuka_core.testing.pki import make_csr, make_key, name
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_label, sample_template
from kipuka_core.testing.services import make_services

OpenPolicy = Callable[[], AbstractAsyncContextManager[Policy]]
_VERDICTS: tuple[type[Verdict], ...] = (Allow, Deny, Wait)


def _with_extensions(*values: x509.ExtensionType, critical: bool = False) -> bytes:
    return make_csr(san=["dns:device"], extensions=[(value, critical) for value in values])


def _with_every_san_kind() -> bytes:
    registered = x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))
    other = x509.OtherName(x509.ObjectIdentifier("1.2.3.5"), b"\x0c\x01x")
    written = ("dns:device", "ip:192.0.2.1", "ip:2001:db8::1", "uri:urn:dev:device", "email:device@example.com")
    san = [x509.DirectoryName(name("device")), registered, other]
    plain = sample_csr(make_csr(san=written)).san or ()
    return make_csr(extensions=[(x509.SubjectAlternativeName([*plain, *san]), False)])


def _with_several_values_in_one_rdn() -> bytes:
    pair = [x509.NameAttribute(NameOID.COMMON_NAME, "device"), x509.NameAttribute(NameOID.USER_ID, "device")]
    return make_csr(subject=x509.Name([x509.RelativeDistinguishedName(pair)]))


_CSRS: dict[str, Callable[[], bytes]] = {
    "name and SAN": lambda: make_csr(san=["dns:device"]),
    "no SAN": make_csr,
    "no subject": lambda: make_csr(common_name=None, san=["dns:device"]),
    "no name at all": lambda: make_csr(common_name=None),
    "subject without a CN": lambda: make_csr(subject=name(None, O="Example")),
    "non-ASCII subject": lambda: make_csr(common_name="Gerät №7 ⚙"),
    "two CNs": lambda: make_csr(subject=x509.Name([*name("device"), *name("another")])),
    "several values in one RDN": _with_several_values_in_one_rdn,
    "many names": lambda: make_csr(san=[f"dns:device-{number}.example" for number in range(300)]),
    "every kind of SAN": _with_every_san_kind,
    "wildcard": lambda: make_csr(san=["dns:*.example"]),
    "unknown extension": lambda: _with_extensions(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), critical=True
    ),
    "CA requested": lambda: _with_extensions(x509.BasicConstraints(ca=True, path_length=0), critical=True),
    "usages": lambda: _with_extensions(
        key_usage_extension({"digitalSignature"}), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    ),
    "usages of a CA": lambda: _with_extensions(
        key_usage_extension({"keyCertSign", "cRLSign"}), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    ),
    "challenge password": lambda: make_csr(challenge_password=b"secret"),
    "RSA 1024": lambda: make_csr(make_key("rsa1024")),
    "RSA 2048": lambda: make_csr(make_key("rsa2048")),
    "unnamed curve": lambda: make_csr(ec.generate_private_key(ec.SECP256K1())),
} | {
    key_type: (lambda key_type=key_type: make_csr(make_key(key_type)))
    for key_type in KeyType
    if key_type.family != "rsa"
}
"""CSRs as clients and attackers send them."""
CASES = tuple(_CSRS)

_LABELS: dict[str, Mapping[str, Any]] = {
    "default": {},
    "everything": {
        "allowed_key_types": tuple(KeyType),
        "key_usage": ("digitalSignature", "keyEncipherment"),
        "require_san": True,
        "subject_binding": SubjectBinding.ANY,
    },
    "one kind of key": {"allowed_key_types": (KeyType.ECDSA384,), "allowed_signature_algorithms": ("sha384",)},
    "RSA only": {"allowed_key_types": (KeyType.RSA2048, KeyType.RSA4096)},
    "no extensions": {"ext_key_usage": (), "allowed_extensions": (), "allowed_key_types": (KeyType.ED25519,)},
}
LABELS = tuple(_LABELS)


@cache
def _csr(case: str) -> Csr:
    return sample_csr(_CSRS[case]())


@pytest.mark.asyncio
class PolicyContract(PortContract):
    """Subclass with ``provider``, and override the fixtures ``settings`` and ``label`` as the policy needs."""

    port_type = Policy
    timeout_seconds: ClassVar[float] = 10
    """As ``[plugins] timeout``: a later answer is a refusal."""

    @pytest.fixture
    def label(self) -> Label:
        """Where the CSRs come to."""
        return sample_label()

    @pytest.fixture
    def services(self, tmp_path: Path, label: Label) -> Services:
        """What the plugin is opened with. Override it for a policy that needs more, a store for example."""
        return make_services(tmp_path, labels=(label,))

    @pytest_asyncio.fixture
    async def policy(self, open_port: OpenPolicy) -> AsyncIterator[Policy]:
        """The policy, open."""
        async with open_port() as policy:
            yield policy

    @pytest.mark.parametrize("case", CASES)
    async def test_it_shapes_every_kind_of_csr(self, policy: Policy, label: Label, case: str) -> None:
        """Shaping returns a template for the same key, leaves its argument alone, and repeated changes no more."""
        template, enrolment = _question(_csr(case), label)
        before = replace(template)
        shaped = await self._shape(policy, template, enrolment)
        assert template == before, (
            "shape writes into the template that it was given: return another one, dataclasses.replace(template, …)"
        )
        assert shaped.spki_der == template.spki_der, "shape changes the key, which is the client's: leave spki_der"
        _check_nothing_is_widened(template, shaped, enrolment)
        assert await self._shape(policy, shaped, enrolment) == shaped, (
            "shaping again changes the template again: the result is to be the same however often shape is asked"
        )

    @pytest.mark.parametrize("case", CASES)
    async def test_it_judges_every_kind_of_csr(self, policy: Policy, label: Label, case: str) -> None:
        """Judging returns a verdict with a reason for the client, leaves the template alone, and is repeatable."""
        template, enrolment = _question(_csr(case), label)
        shaped = await self._shape(policy, template, enrolment)
        before = replace(shaped)
        verdict = await self._decide(policy, shaped, enrolment)
        assert shaped == before, "decide writes into the template, which is judged as it is: change it in shape"
        _check_wording(verdict)
        again = await self._decide(policy, shaped, enrolment)
        assert again == verdict, "the same question has another answer the second time: keep nothing of a request"

    async def test_concurrent_requests_do_not_mix(self, policy: Policy, label: Label) -> None:
        """Fifty requests at once get the answers that they would get one by one."""
        csrs = [_csr(CASES[number % len(CASES)]) for number in range(50)]
        one_by_one = [await self._answer(policy, csr, label) for csr in csrs]
        at_once = await asyncio.gather(*(self._answer(policy, csr, label) for csr in csrs))
        assert at_once == one_by_one, (
            "concurrent requests get other answers than one by one: keep nothing of a request in self, in a default"
            " argument or in a global"
        )

    async def test_cancelled_requests_leave_it_working(self, policy: Policy, label: Label) -> None:
        """A server that stops cancels at any await."""
        question = _question(_csr("name and SAN"), label)
        before = await self._answer(policy, _csr("name and SAN"), label)
        for method in (policy.shape, policy.decide):
            await cancelled_at_every_step(partial(method, *question), self.timeout_seconds)
        assert await self._answer(policy, _csr("name and SAN"), label) == before, (
            "a request that was cancelled changes the answer to the next one: keep nothing of a request"
        )

    async def test_it_lets_the_event_loop_go_round(self, policy: Policy, label: Label) -> None:
        """While it waits, everybody else is served."""
        with loop_goes_round(self._package):
            for case in ("name and SAN", "no name at all", "usages of a CA"):
                await self._answer(policy, _csr(case), label)
            await self._advertise(policy, label)
            await policy.ping()

    async def test_no_secret_is_shown(
        self, open_port: OpenPolicy, label: Label, secrets: Sequence[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither in a repr nor in a reason, which the client reads, nor in the log."""
        caplog.set_level(logging.DEBUG)
        async with open_port() as policy:
            answers = [await self._answer(policy, _csr(case), label) for case in CASES]
            advice = await self._advertise(policy, label)
            shown = repr(policy)
        check_nothing_shows(
            secrets, repr_of_the_port=shown, an_answer_of_the_policy=f"{answers!r} {advice!r}", the_log=caplog.text
        )

    @pytest.mark.parametrize("label_name", LABELS)
    async def test_its_advice_can_be_encoded(self, policy: Policy, label_name: str) -> None:
        """CSR attributes hold dotted OIDs and complete DER values (RFC 7030 4.5.2)."""
        advice = await self._advertise(policy, _label(label_name))
        wanted = [each.oid for each in advice.extensions]
        assert len(set(wanted)) == len(wanted), "advertise wants one extension twice: give each OID one value"

    @pytest.mark.parametrize("label_name", LABELS)
    async def test_a_csr_that_follows_its_advice_is_not_refused_for_it(self, policy: Policy, label_name: str) -> None:
        """Adding the extensions that the policy asks for does not turn its consent into a denial (RFC 7030 4.5)."""
        label = _label(label_name)
        advice = await self._advertise(policy, label)
        key = make_key(next((each for each in label.rules.allowed_key_types if not each.startswith("rsa")), "rsa2048"))
        wanted = [_as_requested(each) for each in advice.extensions]
        plain = sample_csr(make_csr(key, san=["dns:device"]))
        following = sample_csr(make_csr(key, san=["dns:device"], extensions=wanted))
        _, verdict = await self._answer(policy, plain, label)
        if not isinstance(verdict, Deny):
            _, verdict = await self._answer(policy, following, label)
            assert not isinstance(verdict, Deny), (
                f"a CSR that follows the policy's advice is refused for its own advice: {verdict}"
            )

    async def test_it_opens_and_closes_more_than_once(self, open_port: OpenPolicy, label: Label) -> None:
        """Nothing of an earlier opening is in the way of a later one."""
        for _ in range(2):
            async with open_port() as policy:
                await self._answer(policy, _csr("name and SAN"), label)
                await policy.ping()

    async def _answer(self, policy: Policy, csr: Csr, label: Label) -> tuple[Template, Verdict]:
        template, enrolment = _question(csr, label)
        shaped = await self._shape(policy, template, enrolment)
        return shaped, await self._decide(policy, shaped, enrolment)

    async def _shape(self, policy: Policy, template: Template, enrolment: Enrolment) -> Template:
        return await asked(policy.shape, template, enrolment, expect=Template, patience_seconds=self.timeout_seconds)

    async def _decide(self, policy: Policy, template: Template, enrolment: Enrolment) -> Verdict:
        return await asked(policy.decide, template, enrolment, expect=_VERDICTS, patience_seconds=self.timeout_seconds)

    async def _advertise(self, policy: Policy, label: Label) -> CsrAttributes:
        return await asked(policy.advertise, label, expect=CsrAttributes, patience_seconds=self.timeout_seconds)


def _as_requested(extension: WantedExtension) -> tuple[x509.ExtensionType, bool]:
    oid = x509.ObjectIdentifier(extension.oid)
    return x509.UnrecognizedExtension(oid, extension.value_der), extension.critical


def _label(label_name: str) -> Label:
    return sample_label(**_LABELS[label_name])


def _question(csr: Csr, label: Label) -> tuple[Template, Enrolment]:
    enrolment = sample_enrolment(csr, label=label)
    ten_years = enrolment.time + timedelta(days=3650)
    return sample_template(csr, ext_key_usage=label.rules.ext_key_usage, not_after=ten_years), enrolment


def _check_nothing_is_widened(template: Template, shaped: Template, enrolment: Enrolment) -> None:
    """What the core forbids whatever is configured, and what the questions here do not ask for."""
    usages = shaped.key_usage - template.key_usage & NEVER_ISSUED_KEY_USAGES
    assert not usages, f"shape adds the key usage {', '.join(usages)}, which is for CA certificates: leave it out"
    ekus = {oid for oid in set(shaped.ext_key_usage) - set(template.ext_key_usage) if oid in NEVER_ISSUED_EKUS}
    assert not ekus, f"shape adds the extended key usage {', '.join(ekus)}, which no device gets: leave it out"
    extensions = {each.oid.dotted_string for each in shaped.extensions} & DECIDED_BY_TEMPLATE_FIELDS
    assert not extensions, (
        f"shape puts {', '.join(extensions)} into Template.extensions: a template has fields for it, and no certificate"
        " here is a CA's"
    )
    assert shaped.not_after <= template.not_after, (
        "shape lets the certificate end later than the label and the CA allow: only ever shorten not_after"
    )
    assert shaped.not_after > max(shaped.not_before, enrolment.time), "shape makes a certificate that is never valid"


def _check_wording(verdict: Verdict) -> None:
    if isinstance(verdict, Allow):
        return
    reason = verdict.reason
    assert reason.strip(), "the reason is empty: it goes to the client and says what to change"
    assert reason.isprintable(), (
        "the reason is not one line without control characters, which it has to be also when it quotes the CSR: quote"
        " with ascii(…)"
    )
    assert len(reason) <= LONGEST_REASON, (
        f"the reason has {len(reason)} characters: at most {LONGEST_REASON}, also when it quotes the CSR"
    )
