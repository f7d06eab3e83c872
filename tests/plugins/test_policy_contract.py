"""The contract suite for policies finds careless ones."""

import asyncio
from contextlib import nullcontext
from dataclasses import replace

import pytest
from pydantic import BaseModel

from kipuka_builtin.extensions import ExtensionsPolicy
from kipuka_core import (
    Allow,
    AttributeHint,
    CsrAttributes,
    Deny,
    DenyKind,
    Enrolment,
    Label,
    Policy,
    Provider,
    Settings,
    Template,
    Verdict,
    WantedExtension,
)
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.samples import sample_label


class ReturnsNoTemplate(Policy):
    async def shape(self, template: Template, enrolment: Enrolment) -> None:  # type: ignore[override]  # its mistake
        return None


class WritesIntoTheTemplate(Policy):
    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        object.__setattr__(template, "ext_key_usage", ())
        return template


class SwapsTheKey(Policy):
    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        return replace(template, spki_der=b"another")


class AddsEachTime(Policy):
    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        return replace(template, ext_key_usage=(*template.ext_key_usage, "1.2.3"))


class BelievesThatThereIsASan(Policy):
    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        return replace(template, san=(enrolment.csr.san[0],))  # type: ignore[index]  # its mistake


class AnswersTrue(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> bool:  # type: ignore[override]  # its mistake
        return True


class GivesNoReason(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        return Deny(DenyKind.CSR, " ")


class QuotesTheCsrAsItIs(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        return Deny(DenyKind.CSR, f"no: {enrolment.csr.der.decode('latin-1')}")


class ChangesTheTemplateWhileJudging(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        object.__setattr__(template, "san", ())
        return Allow()


class ChangesItsMind(Policy):
    asked = 0

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        self.asked += 1
        return Allow() if self.asked % 2 else Deny(DenyKind.CSR, "not again")


class Hangs(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        await asyncio.Event().wait()
        return Allow()


class KeepsTheRequestInItself(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        self.subject = template.subject
        await asyncio.sleep(0)
        return Deny(DenyKind.PERMISSION, ascii(self.subject))


class AdvisesNonsense(Policy):
    def __init__(self, advice: CsrAttributes) -> None:
        self._advice = advice

    async def advertise(self, label: Label) -> CsrAttributes:
        return self._advice


class AdvisesWhatItRefuses(ExtensionsPolicy):
    async def advertise(self, label: Label) -> CsrAttributes:
        return CsrAttributes(extensions=(WantedExtension("1.3.6.1.4.1.99999.1", b"\x05\x00"),))


class ImpatientContract(PolicyContract):
    timeout_seconds = 0.05


SHAPES, JUDGES = "test_it_shapes_every_kind_of_csr", "test_it_judges_every_kind_of_csr"


@pytest.mark.parametrize(
    ("policy", "test", "case", "error"),
    [
        (ReturnsNoTemplate(), SHAPES, "no SAN", "it has to answer with Template"),
        (WritesIntoTheTemplate(), SHAPES, "no SAN", "writes into the template"),
        (SwapsTheKey(), SHAPES, "no SAN", "changes the key"),
        (AddsEachTime(), SHAPES, "no SAN", "shaping again"),
        (BelievesThatThereIsASan(), SHAPES, "no SAN", "not subscriptable"),
        (AnswersTrue(), JUDGES, "no SAN", "answered with bool; it has to answer with Allow, Deny or Wait"),
        (GivesNoReason(), JUDGES, "no SAN", "says what to change"),
        (QuotesTheCsrAsItIs(), JUDGES, "no SAN", "one line without control"),
        (ChangesTheTemplateWhileJudging(), JUDGES, "name and SAN", "change it in shape"),
        (ChangesItsMind(), JUDGES, "no SAN", "another answer the second time"),
        (Hangs(), JUDGES, "no SAN", "no answer within 0.05 s"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Policy) else "",
)
async def test_a_careless_policy_fails(policy: Policy, test: str, case: str, error: str) -> None:
    contract = ImpatientContract() if isinstance(policy, Hangs) else PolicyContract()
    with pytest.raises(AssertionError, match=error):
        await getattr(contract, test)(policy, sample_label(), case)


async def test_a_policy_that_mixes_requests_fails() -> None:
    with pytest.raises(AssertionError):
        await PolicyContract().test_concurrent_requests_do_not_mix(KeepsTheRequestInItself(), sample_label())


@pytest.mark.parametrize(
    "advice",
    [
        None,
        CsrAttributes(oids=("subjectAltName",)),
        CsrAttributes(attributes=(AttributeHint("1.2.3", (b"\x02\x05\x00",)),)),
        CsrAttributes(extensions=(WantedExtension("2.5.29.15", b""),)),
    ],
)
async def test_a_policy_with_advice_that_cannot_be_encoded_fails(advice: CsrAttributes) -> None:
    with pytest.raises(AssertionError, match=r"has to answer|whose|in which"):
        await PolicyContract().test_its_advice_can_be_encoded(AdvisesNonsense(advice), "default")


async def test_a_policy_that_refuses_what_it_advertises_fails() -> None:
    contract = PolicyContract()
    with pytest.raises(AssertionError, match="refused for its own advice"):
        await contract.test_a_csr_that_follows_its_advice_is_not_refused_for_it(AdvisesWhatItRefuses(), "default")


class Undescribed(Settings):
    limit: int = 3


class Lenient(BaseModel):
    pass


async def test_a_plugin_with_lenient_or_unexplained_settings_fails() -> None:
    for model, error in (
        (Undescribed, "limit has no description"),
        (Lenient, "not frozen; let it inherit"),
    ):

        class Contract(PolicyContract):
            provider = Provider("careless", model, lambda settings, services: nullcontext(ExtensionsPolicy()))

        with pytest.raises(AssertionError, match=error):
            await Contract().test_its_settings_refuse_unknown_keys_and_explain_known_ones({})


async def test_a_policy_that_opens_only_once_fails() -> None:
    openings = [nullcontext(ExtensionsPolicy())]
    with pytest.raises(IndexError):
        await PolicyContract().test_it_opens_and_closes_more_than_once(openings.pop, sample_label())
