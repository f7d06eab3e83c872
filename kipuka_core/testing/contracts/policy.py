"""What every policy has to do, whatever it decides.

class TestMyPolicy(PolicyContract):
    provider = PROVIDER
    settings = {"some": "setting"}
"""
# ruff: noqa: S101 - a contract suite is made of assertions

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kipuka_core.domain.ports import Policy
from kipuka_core.hooks.provider import Services
from kipuka_core.model.certificate import CsrAttributes, Template, WantedExtension
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.key_type import KeyType
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.label import Label, SubjectBinding
from kipuka_core.model.request import Csr
from kipuka_core.model.verdict import Allow, Deny, DenyKind, Verdict, Wait
from kipuka_core.testing.contracts.port import PortContract
from kipuka_core.testing.contracts.settings import check_settings
from kipuka_core.testing.pki import make_csr, make_key, name
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_label, sample_template
from kipuka_core.testing.services import make_services

_Answer = TypeVar("_Answer")
OpenPolicy = Callable[[], AbstractAsyncContextManager[Policy]]
_LONGEST_REASON = 500


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
        shaped = await self._within_time(policy.shape(template, enrolment))
        assert isinstance(shaped, Template), "shape returns a Template"
        assert template == before, "shape returns another template instead of writing into the one it was given"
        assert shaped.spki_der == template.spki_der, "the key is the client's"
        assert await self._within_time(policy.shape(shaped, enrolment)) == shaped, "shaping again changes nothing"

    @pytest.mark.parametrize("case", CASES)
    async def test_it_judges_every_kind_of_csr(self, policy: Policy, label: Label, case: str) -> None:
        """Judging returns a verdict with a reason for the client, leaves the template alone, and is repeatable."""
        template, enrolment = _question(_csr(case), label)
        shaped = await self._within_time(policy.shape(template, enrolment))
        before = replace(shaped)
        verdict = await self._within_time(policy.decide(shaped, enrolment))
        assert isinstance(verdict, Allow | Deny | Wait), "decide returns Allow, Deny or Wait"
        assert shaped == before, "decide leaves the template alone: it was judged as it is"
        _check_wording(verdict)
        again = await self._within_time(policy.decide(shaped, enrolment))
        assert again == verdict, "the same question has the same answer"

    async def test_concurrent_requests_do_not_mix(self, policy: Policy, label: Label) -> None:
        """Fifty requests at once get the answers that they would get one by one."""
        csrs = [_csr(CASES[number % len(CASES)]) for number in range(50)]
        one_by_one = [await self._answer(policy, csr, label) for csr in csrs]
        at_once = await asyncio.gather(*(self._answer(policy, csr, label) for csr in csrs))
        assert at_once == one_by_one

    @pytest.mark.parametrize("label_name", LABELS)
    async def test_its_advice_can_be_encoded(self, policy: Policy, label_name: str) -> None:
        """CSR attributes hold dotted OIDs and complete DER values (RFC 7030 4.5.2)."""
        advice = await self._within_time(policy.advertise(_label(label_name)))
        assert isinstance(advice, CsrAttributes), "advertise returns CsrAttributes"
        oids = [*advice.oids, *(each.oid for each in advice.attributes), *(each.oid for each in advice.extensions)]
        assert all(re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", oid) for oid in oids), f"{oids} are dotted OIDs"
        values = [value for attribute in advice.attributes for value in attribute.values_der]
        for value in [*values, *(extension.value_der for extension in advice.extensions)]:
            asn1.decode_der(asn1.TLV, value)

    @pytest.mark.parametrize("label_name", LABELS)
    async def test_a_csr_that_follows_its_advice_is_not_refused_for_it(self, policy: Policy, label_name: str) -> None:
        """Adding the extensions that the policy asks for does not turn its consent into a denial (RFC 7030 4.5)."""
        label = _label(label_name)
        advice = await self._within_time(policy.advertise(label))
        key = make_key(next((each for each in label.rules.allowed_key_types if not each.startswith("rsa")), "rsa2048"))
        wanted = [_as_requested(each) for each in advice.extensions]
        plain = sample_csr(make_csr(key, san=["dns:device"]))
        following = sample_csr(make_csr(key, san=["dns:device"], extensions=wanted))
        _, verdict = await self._answer(policy, plain, label)
        if not isinstance(verdict, Deny):
            _, verdict = await self._answer(policy, following, label)
            assert not isinstance(verdict, Deny), f"refused for its own advice: {verdict}"

    async def test_it_opens_and_closes_more_than_once(self, open_port: OpenPolicy, label: Label) -> None:
        """Nothing of an earlier opening is in the way of a later one."""
        for _ in range(2):
            async with open_port() as policy:
                await self._answer(policy, _csr("name and SAN"), label)
                await self._within_time(policy.ping())

    async def test_its_settings_refuse_unknown_keys_and_explain_known_ones(self, settings: Mapping[str, Any]) -> None:
        """A typo in ``kipuka.toml`` is an error, and the reference page has a line for every key."""
        check_settings(self.provider.settings, settings)

    async def _answer(self, policy: Policy, csr: Csr, label: Label) -> tuple[Template, Verdict]:
        template, enrolment = _question(csr, label)
        shaped = await self._within_time(policy.shape(template, enrolment))
        return shaped, await self._within_time(policy.decide(shaped, enrolment))

    async def _within_time(self, answer: Awaitable[_Answer]) -> _Answer:
        async with asyncio.timeout(self.timeout_seconds):
            return await answer


def _as_requested(extension: WantedExtension) -> tuple[x509.ExtensionType, bool]:
    oid = x509.ObjectIdentifier(extension.oid)
    return x509.UnrecognizedExtension(oid, extension.value_der), extension.critical


def _label(label_name: str) -> Label:
    return sample_label(**_LABELS[label_name])


def _question(csr: Csr, label: Label) -> tuple[Template, Enrolment]:
    enrolment = sample_enrolment(csr, label=label)
    ten_years = enrolment.time + timedelta(days=3650)
    return sample_template(csr, ext_key_usage=label.rules.ext_key_usage, not_after=ten_years), enrolment


def _check_wording(verdict: Verdict) -> None:
    if isinstance(verdict, Allow):
        return
    assert isinstance(verdict.reason, str), "a reason is text"
    assert verdict.reason.strip(), "a reason says what to change"
    assert verdict.reason.isprintable(), "a reason is one line without control characters, also when it quotes the CSR"
    assert len(verdict.reason) <= _LONGEST_REASON, "a reason is short (RFC 7030 4.2.3), also when it quotes the CSR"
    if isinstance(verdict, Deny):
        assert isinstance(verdict.kind, DenyKind), "a denial says of which kind it is"
