"""Policy ``extensions``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_builtin.extensions import PROVIDER, ExtensionsPolicy, ExtensionsSettings
from kipuka_core import Allow, ConfigurationError, Deny, DenyKind, KeyType, Label, Template, Verdict, WantedExtension
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_label, sample_template
from kipuka_core.testing.services import make_services

CLIENT_AUTH, SERVER_AUTH = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"
DEFAULT_EXTENSIONS = ("2.5.29.17", "2.5.29.15", "2.5.29.37")
KEYS = {key_type: pki.make_key(key_type) for key_type in ("ecdsa256", "rsa2048", "ed25519", "ml-dsa-44")}
PRIVATE_OID = "1.3.6.1.4.1.99999.7"
PRIVATE_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier(PRIVATE_OID), b"\x05\x00")


class TestExtensionsPolicyKeepsTheContract(PolicyContract):
    provider = PROVIDER


class TestExtensionsPolicyWithFurtherExtensionsKeepsTheContract(PolicyContract):
    provider = PROVIDER

    @pytest.fixture
    def label(self) -> Label:
        allowed = (*DEFAULT_EXTENSIONS, "1.3.6.1.4.1.99999.1")
        return sample_label(allowed_extensions=allowed, key_usage=("digitalSignature",))


async def shape_and_judge(
    *asked: x509.ExtensionType,
    key_type: str = "ecdsa256",
    san: Sequence[str] = (),
    critical: bool = False,
    **rules: Any,
) -> tuple[Template, Verdict]:
    csr = sample_csr(pki.make_csr(KEYS[key_type], san=san, extensions=[(value, critical) for value in asked]))
    enrolment = sample_enrolment(csr, label=sample_label(**rules))
    template = sample_template(csr, ext_key_usage=enrolment.label.rules.ext_key_usage)
    shaped = await ExtensionsPolicy().shape(template, enrolment)
    return shaped, await ExtensionsPolicy().decide(shaped, enrolment)


def refused(verdict: Verdict, text: str) -> None:
    assert isinstance(verdict, Deny), verdict
    assert verdict.kind is DenyKind.CSR
    assert text in verdict.reason


@pytest.mark.parametrize(
    ("key_type", "usages"),
    [
        ("rsa2048", frozenset({"digitalSignature", "keyEncipherment"})),
        ("ecdsa256", frozenset({"digitalSignature"})),
        ("ed25519", frozenset({"digitalSignature"})),
        ("ml-dsa-44", frozenset({"digitalSignature"})),
    ],
)
async def test_without_a_request_the_usages_follow_the_key_type(key_type: str, usages: frozenset[str]) -> None:
    template, verdict = await shape_and_judge(key_type=key_type)
    assert (template.key_usage, template.ext_key_usage, verdict) == (usages, (CLIENT_AUTH,), Allow())


async def test_a_label_s_key_usage_is_issued_as_far_as_the_key_can() -> None:
    usages = ("digitalSignature", "keyEncipherment", "keyAgreement")
    assert (await shape_and_judge(key_type="rsa2048", key_usage=usages))[0].key_usage == set(usages[:2])
    assert (await shape_and_judge(key_type="ecdsa256", key_usage=usages))[0].key_usage == {usages[0], usages[2]}
    refused((await shape_and_judge(key_type="ecdsa256", key_usage=("keyEncipherment",)))[1], "would have no key usage")


@pytest.mark.parametrize(
    ("key_type", "asked"),
    [
        ("rsa2048", frozenset({"digitalSignature"})),
        ("ecdsa256", frozenset({"digitalSignature", "keyAgreement"})),
        ("ecdsa256", frozenset({"keyAgreement"})),
    ],
)
async def test_a_csr_narrows_the_key_usage_within_the_ceiling(key_type: str, asked: frozenset[str]) -> None:
    template, verdict = await shape_and_judge(key_usage_extension(asked), key_type=key_type)
    assert (template.key_usage, verdict) == (asked, Allow())


@pytest.mark.parametrize(
    ("key_type", "asked", "beyond"),
    [
        ("ecdsa256", frozenset({"digitalSignature", "keyEncipherment"}), "keyEncipherment"),
        ("rsa2048", frozenset({"digitalSignature", "dataEncipherment"}), "dataEncipherment"),
        ("ed25519", frozenset({"keyAgreement"}), "keyAgreement"),
        ("ecdsa256", frozenset({"digitalSignature", "keyCertSign", "cRLSign"}), "cRLSign, keyCertSign"),
        ("ecdsa256", frozenset({"keyAgreement", "encipherOnly"}), "encipherOnly"),
    ],
)
async def test_a_key_usage_beyond_the_ceiling_is_refused(key_type: str, asked: frozenset[str], beyond: str) -> None:
    template, verdict = await shape_and_judge(key_usage_extension(asked), key_type=key_type)
    assert template.key_usage < asked
    refused(verdict, f"the CSR asks for key usage {beyond}, which this label does not issue")


async def test_an_empty_key_usage_is_refused() -> None:
    refused((await shape_and_judge(key_usage_extension(())))[1], "would have no key usage")


async def test_a_csr_narrows_the_extended_key_usage() -> None:
    asked = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    template, verdict = await shape_and_judge(asked, ext_key_usage=(CLIENT_AUTH, SERVER_AUTH))
    assert (template.ext_key_usage, verdict) == ((SERVER_AUTH,), Allow())


async def test_an_extended_key_usage_that_the_label_does_not_issue_is_refused() -> None:
    asked = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    assert (await shape_and_judge(asked))[1] == Deny(
        DenyKind.CSR,
        "the CSR asks for extended key usage serverAuth, which this label does not issue; it issues clientAuth",
    )
    refused((await shape_and_judge(asked, ext_key_usage=()))[1], "it issues none")


async def test_usages_that_another_policy_adds_beyond_the_ceiling_are_refused() -> None:
    csr = sample_csr(pki.make_csr())
    for fields, text in (
        ({"key_usage": frozenset({"digitalSignature", "dataEncipherment"})}, "would have key usage dataEncipherment"),
        ({"ext_key_usage": (CLIENT_AUTH, SERVER_AUTH)}, "would have extended key usage serverAuth"),
    ):
        refused(await ExtensionsPolicy().decide(sample_template(csr, **fields), sample_enrolment(csr)), text)


@pytest.mark.parametrize(
    ("asked", "described"),
    [
        (x509.SubjectKeyIdentifier(b"1" * 20), "subjectKeyIdentifier (2.5.29.14)"),
        (PRIVATE_EXTENSION, PRIVATE_OID),
        (x509.TLSFeature([x509.TLSFeatureType.status_request]), "tlsFeature (1.3.6.1.5.5.7.1.24)"),
    ],
)
async def test_an_extension_outside_the_list_is_refused_with_name_and_oid(
    asked: x509.ExtensionType, described: str
) -> None:
    refused((await shape_and_judge(asked))[1], f"the CSR asks for the extension {described}, which this label does not")


async def test_the_three_usual_extensions_too_are_refused_where_the_label_does_not_list_them() -> None:
    refused((await shape_and_judge(san=["dns:device"], allowed_extensions=()))[1], "subjectAltName (2.5.29.17)")
    refused((await shape_and_judge(key_usage_extension({"digitalSignature"}), allowed_extensions=()))[1], "keyUsage")


async def test_a_listed_extension_is_copied_as_it_is() -> None:
    allowed = (*DEFAULT_EXTENSIONS, PRIVATE_OID)
    template, verdict = await shape_and_judge(PRIVATE_EXTENSION, critical=True, allowed_extensions=allowed)
    assert verdict == Allow()
    assert [(each.critical, each.value) for each in template.extensions] == [(True, PRIVATE_EXTENSION)]


async def test_what_has_a_field_of_its_own_is_not_copied_as_an_extension() -> None:
    template, verdict = await shape_and_judge(key_usage_extension({"digitalSignature"}), san=["dns:device"])
    assert (template.extensions, verdict) == ((), Allow())


async def test_a_listed_key_identifier_is_accepted_and_left_to_the_ca() -> None:
    asked = x509.SubjectKeyIdentifier(b"1" * 20)
    template, verdict = await shape_and_judge(asked, allowed_extensions=("2.5.29.14",))
    assert (template.extensions, verdict) == ((), Allow())


async def test_an_extension_that_the_ca_makes_is_refused_even_where_it_is_listed() -> None:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier("http://evil.example/")], None, None, None)
    asked = x509.CRLDistributionPoints([point])
    template, verdict = await shape_and_judge(asked, allowed_extensions=("2.5.29.31",))
    assert template.extensions == ()
    refused(verdict, "cRLDistributionPoints (2.5.29.31)")


async def test_ca_false_is_harmless_and_ca_true_is_refused() -> None:
    template, verdict = await shape_and_judge(x509.BasicConstraints(ca=False, path_length=None))
    assert (template.extensions, verdict) == ((), Allow())
    for allowed in (DEFAULT_EXTENSIONS, ("2.5.29.19",)):
        _, verdict = await shape_and_judge(x509.BasicConstraints(ca=True, path_length=0), allowed_extensions=allowed)
        refused(verdict, "asks for a CA certificate")


async def test_usages_are_advertised_with_their_values() -> None:
    advice = await ExtensionsPolicy().advertise(sample_label(allowed_key_types=(KeyType.ECDSA256, KeyType.ED25519)))
    client_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]).public_bytes()
    assert advice.extensions == (
        WantedExtension("2.5.29.15", bytes.fromhex("03020780"), critical=True),
        WantedExtension("2.5.29.37", client_auth),
    )


async def test_what_depends_on_the_key_or_would_be_refused_is_not_advertised() -> None:
    both: dict[str, Any] = {"allowed_key_types": (KeyType.ECDSA256, KeyType.RSA2048)}
    assert [each.oid for each in (await ExtensionsPolicy().advertise(sample_label(**both))).extensions] == ["2.5.29.37"]
    for rules in ({"allowed_extensions": ()}, both | {"ext_key_usage": ()}):
        assert (await ExtensionsPolicy().advertise(sample_label(**rules))).extensions == ()


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"allowed_extensions": ("2.5.29.35",)}, "authorityKeyIdentifier is made by the CA"),
        ({"allowed_extensions": ("2.5.29.15",), "require_san": True}, "require_san needs subjectAltName"),
    ],
)
async def test_a_list_that_cannot_work_stops_the_start(tmp_path: Path, rules: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"enrollment\.allowed_extensions: {problem}"):
        async with PROVIDER.open(ExtensionsSettings(), make_services(tmp_path, labels=[sample_label(**rules)])):
            pass
