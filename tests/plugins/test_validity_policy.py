"""Policy ``validity``."""

from datetime import timedelta

from kipuka_builtin.validity import PROVIDER, ValidityPolicy
from kipuka_core import Allow, Deny, Enrolment, Template
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.samples import NOW, sample_csr, sample_enrolment, sample_label, sample_template

CSR = sample_csr(pki.make_csr())


class TestValidityPolicyKeepsTheContract(PolicyContract):
    provider = PROVIDER


def question(days: int, limit: int) -> tuple[Template, Enrolment]:
    template = sample_template(CSR, not_before=NOW, not_after=NOW + timedelta(days=days))
    return template, sample_enrolment(CSR, label=sample_label(max_validity_days=limit))


async def test_what_is_too_long_is_shortened() -> None:
    template, enrolment = question(days=3650, limit=90)
    shaped = await ValidityPolicy().shape(template, enrolment)
    assert (shaped.not_before, shaped.not_after) == (NOW, NOW + timedelta(days=90))
    assert await ValidityPolicy().decide(shaped, enrolment) == Allow()


async def test_what_is_short_enough_stays() -> None:
    template, enrolment = question(days=30, limit=90)
    assert await ValidityPolicy().shape(template, enrolment) == template


async def test_what_another_policy_made_longer_again_is_refused() -> None:
    assert isinstance(await ValidityPolicy().decide(*question(days=91, limit=90)), Deny)
