"""Policy ``names``."""

import warnings
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kipuka_builtin.names import PROVIDER, NamesPolicy, NamesSettings
from kipuka_core import Allow, ClientIdentity, ConfigurationError, Deny, DenyKind, Label, OneTimeCredential, Verdict
from kipuka_core.model.label import SubjectBinding
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_label, sample_template
from kipuka_core.testing.services import make_services

CSR = sample_csr(pki.make_csr())


class TestNamesPolicyKeepsTheContract(PolicyContract):
    provider = PROVIDER


class TestNamesPolicyWithoutBindingKeepsTheContract(PolicyContract):
    provider = PROVIDER

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"san_kinds": ["dns", "ip", "uri", "email", "dirname", "rid", "other"]}

    @pytest.fixture
    def label(self) -> Label:
        return sample_label(subject_binding=SubjectBinding.ANY)


class TestNamesPolicyWithAPatternKeepsTheContract(PolicyContract):
    provider = PROVIDER

    @pytest.fixture
    def label(self) -> Label:
        return sample_label(subject_binding=SubjectBinding.PATTERN, subject_pattern="{id}")


async def judge(
    subject: x509.Name | str | None,
    san: Sequence[x509.GeneralName | str] = (),
    *,
    held: Sequence[str] = (),
    entity_id: str = "device",
    settings: NamesSettings | None = None,
    otp_pattern: str | None = None,
    **rules: Any,
) -> Verdict:
    if not isinstance(subject, x509.Name):
        subject = pki.name(subject)
    names = tuple(each if isinstance(each, x509.GeneralName) else pki.general_name(each) for each in san)
    template = sample_template(CSR, subject=subject, san=names)
    identity = ClientIdentity(
        authenticator="mtls",
        entity_id=entity_id,
        names=frozenset(held),
        one_time=OneTimeCredential("otp-1", otp_pattern),
    )
    enrolment = sample_enrolment(CSR, identity=identity, label=sample_label(**rules))
    return await NamesPolicy(settings or NamesSettings()).decide(template, enrolment)


def unchecked(oid: x509.ObjectIdentifier, value: str) -> x509.Name:
    with warnings.catch_warnings(action="ignore"):  # cryptography warns of what it reads and RFC 5280 forbids
        return x509.Name([x509.NameAttribute(oid, value, _validate=False)])


def refused(verdict: Verdict, kind: DenyKind, text: str) -> None:
    assert isinstance(verdict, Deny), verdict
    assert verdict.kind is kind
    assert text in verdict.reason


@pytest.mark.parametrize(
    ("subject", "san"),
    [
        (pki.name("device"), ()),
        (pki.name("device", O="Example", UID="device"), ("dns:device", "dns:DEVICE")),
        (pki.name(None), ("dns:a.example", "ip:192.0.2.1", "ip:2001:db8::1", "uri:urn:dev:1", "email:a@b.example")),
        (pki.name("held", email="a@b.example"), ("dns:A.example",)),
    ],
)
async def test_names_that_the_identity_holds_are_its_own(
    subject: x509.Name | str | None, san: Sequence[x509.GeneralName | str]
) -> None:
    held = ("dns:a.example", "ip:192.0.2.1", "ip:2001:db8::1", "uri:urn:dev:1", "email:a@b.example", "cn:held")
    assert await judge(subject, san, held=held) == Allow()


@pytest.mark.parametrize(
    ("subject", "san", "offending"),
    [
        ("other", (), "cn:other"),
        ("Device", (), "cn:Device"),
        ("a.example", (), "cn:a.example"),
        (x509.Name([*pki.name("device"), *pki.name("admin")]), (), "cn:admin"),
        (pki.name("device", UID="root"), (), "uid:root"),
        (pki.name("device", serialNumber="SN-2"), (), "serialnumber:SN-2"),
        (pki.name(None, serialNumber="SN-2"), (), "serialnumber:SN-2"),
        (pki.name("device", email="root@b.example"), (), "email:root@b.example"),
        ("device", ("dns:other",), "dns:other"),
        ("device", ("dns:device", "dns:device.example"), "dns:device.example"),
        ("device", ("ip:192.0.2.2",), "ip:192.0.2.2"),
        ("device", ("uri:urn:dev:2",), "uri:urn:dev:2"),
        ("device", ("dns:held",), "dns:held"),
    ],
)
async def test_any_other_name_is_refused_by_name(
    subject: x509.Name | str | None, san: Sequence[x509.GeneralName | str], offending: str
) -> None:
    verdict = await judge(subject, san, held=("dns:a.example", "ip:192.0.2.1", "uri:urn:dev:1", "cn:held"))
    refused(verdict, DenyKind.PERMISSION, f"the name {offending} is not for this client")


async def test_an_entity_id_that_is_an_address_or_a_uri_covers_that_kind() -> None:
    assert await judge(None, ("ip:192.0.2.9",), entity_id="192.0.2.9") == Allow()
    assert await judge("dev", ("email:dev@b.example",), entity_id="dev@b.example") == Deny(
        DenyKind.PERMISSION, "the name cn:dev is not for this client; ask only for names that you hold"
    )


async def test_a_letter_that_lower_case_makes_ascii_does_not_match() -> None:
    refused(await judge(None, ("dns:kevin",), entity_id="\u212aevin"), DenyKind.PERMISSION, "dns:kevin")


@pytest.mark.parametrize("binding", [SubjectBinding.IDENTITY, SubjectBinding.PATTERN])
async def test_a_certificate_that_names_nobody_is_refused(binding: SubjectBinding) -> None:
    verdict = await judge(pki.name(None, O="Example"), subject_binding=binding, subject_pattern=".*")
    refused(verdict, DenyKind.CSR, "names nobody")


@pytest.mark.parametrize("binding", list(SubjectBinding))
async def test_no_subject_and_no_san_is_refused_whatever_the_binding(binding: SubjectBinding) -> None:
    refused(await judge(None, subject_binding=binding, subject_pattern=".*"), DenyKind.CSR, "names nobody")


async def test_any_binding_asks_for_no_name_in_particular() -> None:
    assert await judge("whoever", ("dns:*.example", "ip:192.0.2.77"), subject_binding=SubjectBinding.ANY) == Allow()
    assert await judge(pki.name(None, O="Example"), subject_binding=SubjectBinding.ANY) == Allow()


async def test_require_san_refuses_a_csr_without_one_and_advertises_it() -> None:
    refused(await judge("device", require_san=True), DenyKind.CSR, "has no SubjectAltName, which this label requires")
    assert await judge("device", ("dns:device",), require_san=True) == Allow()
    policy = NamesPolicy(NamesSettings())
    assert (await policy.advertise(sample_label(require_san=True))).oids == ("2.5.29.17",)
    assert (await policy.advertise(sample_label())).oids == ()


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [
        (r"{id}\.devices\.example", "device.devices.example", True),
        (r"{id}\.devices\.example", "other.devices.example", False),
        (r"{id}\.devices\.example", "device.devices.example.evil.example", False),
        (r"{id}\.devices\.example", "x-device.devices.example", False),
        (r"a{3}|{id}", "aaa", True),
    ],
)
async def test_a_pattern_is_matched_as_a_whole_with_the_id_in_its_place(
    pattern: str | None, name: str, allowed: bool
) -> None:
    rules: dict[str, Any] = {"subject_binding": SubjectBinding.PATTERN, "subject_pattern": pattern}
    for verdict in (await judge(name, **rules), await judge(None, (f"dns:{name.upper()}",), **rules)):
        assert (verdict == Allow()) is allowed
        assert allowed or (isinstance(verdict, Deny) and verdict.kind is DenyKind.PERMISSION)


async def test_an_entity_id_is_text_and_not_a_part_of_the_pattern() -> None:
    rules: dict[str, Any] = {"subject_binding": SubjectBinding.PATTERN, "subject_pattern": "{id}"}
    assert await judge("a.*", entity_id="a.*", **rules) == Allow()
    refused(await judge("anything", entity_id="a.*", **rules), DenyKind.PERMISSION, "cn:anything")


async def test_case_does_not_matter_in_a_dns_name_and_does_in_a_cn() -> None:
    rules: dict[str, Any] = {
        "subject_binding": SubjectBinding.PATTERN,
        "subject_pattern": "{id}",
        "entity_id": "Device",
    }
    assert await judge(None, ("dns:device",), **rules) == Allow()
    refused(await judge("device", **rules), DenyKind.PERMISSION, "cn:device")


async def test_every_name_has_to_match_the_pattern() -> None:
    rules: dict[str, Any] = {"subject_binding": SubjectBinding.PATTERN, "subject_pattern": "{id}"}
    refused(await judge("device", ("dns:device", "dns:evil"), **rules), DenyKind.PERMISSION, "dns:evil")


async def test_a_pattern_label_without_a_pattern_lets_nobody_in() -> None:
    refused(await judge("device", subject_binding=SubjectBinding.PATTERN), DenyKind.PERMISSION, "cn:device")


@pytest.mark.parametrize("pattern", [None, "", "(", "{id}["])
async def test_a_missing_or_broken_pattern_stops_the_start(tmp_path: Path, pattern: str | None) -> None:
    label = sample_label("fleet", subject_binding=SubjectBinding.PATTERN, subject_pattern=pattern)
    with pytest.raises(ConfigurationError, match=r"est\.label 'fleet': subject_pattern: "):
        async with PROVIDER.open(NamesSettings(), make_services(tmp_path, labels=[label])):
            pass


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (x509.DNSName("bad_label.example"), "is not a DNS name"),
        (x509.DNSName("-a.example"), "is not a DNS name"),
        (x509.DNSName("a..example"), "is not a DNS name"),
        (x509.DNSName("a.example."), "is not a DNS name"),
        (x509.DNSName(".example"), "is not a DNS name"),
        (x509.DNSName("a" * 64), "is not a DNS name"),
        (x509.DNSName(".".join(["a" * 63] * 4)), "is not a DNS name"),
        (x509.DNSName("a b"), "is not a DNS name"),
        (x509.DNSName("a.*.example"), "is not a DNS name"),
        (x509.DNSName("*.device"), "is a wildcard"),
        (x509.DNSName("192.0.2.1"), "is an address"),
        (x509.DNSName("device\x00.evil"), "control or invisible"),
        (x509.DNSName(""), "is empty"),
        (x509.UniformResourceIdentifier("device"), "is not an absolute URI"),
        (x509.UniformResourceIdentifier("http://[device"), "is not an absolute URI"),
        (x509.UniformResourceIdentifier("urn:a\nb"), "control or invisible"),
        (x509.UniformResourceIdentifier("urn:" + "a" * 2048), "is longer than 2048"),
        (x509.RFC822Name("device"), "is not an e-mail address"),
        (x509.RFC822Name("a b@c.example"), "is not an e-mail address"),
        (x509.RFC822Name("a@-c"), "is not an e-mail address"),
        (x509.DirectoryName(pki.name("device")), "of kind dirname are not accepted here; use dns, ip, uri, email"),
        (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), "of kind rid are not accepted here"),
    ],
)
async def test_a_malformed_or_unwanted_san_is_a_csr_refusal(name: x509.GeneralName, problem: str) -> None:
    refused(await judge("device", (name,)), DenyKind.CSR, problem)


async def test_a_network_is_not_an_address() -> None:
    network = x509.IPAddress(ip_network("192.0.2.0/24"))
    refused(await judge("device", (network,)), DenyKind.CSR, "is a network")


async def test_further_kinds_are_accepted_where_they_are_listed_and_held() -> None:
    settings = NamesSettings(san_kinds=("dirname",))
    san = (x509.DirectoryName(pki.name("device")),)
    assert await judge("device", san, settings=settings, held=("dirname:CN=device",)) == Allow()
    refused(await judge("device", san, settings=settings), DenyKind.PERMISSION, "dirname:CN=device")
    refused(await judge("device", ("dns:device",), settings=settings), DenyKind.CSR, "of kind dns are not accepted")
    empty = (x509.DirectoryName(x509.Name([])),)
    refused(await judge("device", empty, settings=settings), DenyKind.CSR, "is empty")


@pytest.mark.parametrize(
    ("oid", "value", "problem"),
    [
        (NameOID.COMMON_NAME, "a" * 65, "CN is longer than 64"),
        (NameOID.ORGANIZATION_NAME, "a" * 65, "O is longer than 64"),
        (NameOID.USER_ID, "a" * 2049, "UID is longer than 2048"),
        (NameOID.COMMON_NAME, "device\x00", "CN holds control"),
        (NameOID.COMMON_NAME, "device\u202e", "CN holds control or invisible"),
        (NameOID.ORGANIZATION_NAME, "two\nlines", "O holds control"),
        (NameOID.COMMON_NAME, "", "CN is empty"),
        (NameOID.COMMON_NAME, "  ", "CN is empty"),
    ],
)
async def test_a_malformed_subject_is_a_csr_refusal_even_without_binding(
    oid: x509.ObjectIdentifier, value: str, problem: str
) -> None:
    refused(await judge(unchecked(oid, value), subject_binding=SubjectBinding.ANY), DenyKind.CSR, problem)


async def test_the_bounds_themselves_are_fine() -> None:
    assert await judge("a" * 64, entity_id="a" * 64) == Allow()
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert await judge(None, (f"dns:{longest}",), entity_id=longest) == Allow()


# binding -> what a one-time password for {id}-<digit> allows there
OF_PASSWORD = [
    ("identity", {"device-7": True, "device": False, "other-7": False}),
    ("any", {"device-7": True, "device": False, "other-7": False}),
    ("pattern", {"device-7": False, "device": False, "device-1": True}),
]


@pytest.mark.parametrize(("binding", "names"), OF_PASSWORD)
async def test_every_name_has_to_match_the_pattern_of_the_password(binding: str, names: dict[str, bool]) -> None:
    """It takes the place of the names that the client holds, and never that of the label's own pattern."""
    rules: dict[str, Any] = {
        "subject_binding": SubjectBinding(binding),
        "subject_pattern": "{id}(-1)?",
        "otp_pattern": r"{id}-\d",
    }
    for name, allowed in names.items():
        for verdict in (await judge(name, **rules), await judge(None, (f"dns:{name}",), **rules)):
            assert (verdict == Allow()) is allowed, name
    refused(await judge("device-1", ("dns:evil",), **rules), DenyKind.PERMISSION, "one-time password was made for")
    refused(await judge(pki.name(None, O="Example"), **rules), DenyKind.CSR, "names nobody")
