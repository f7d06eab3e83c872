"""Orders at pebble: names, times, renewals, revocations, issuers, and what is left when pebble forgets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core import ConfigurationError, CsrRefused, NotAllowed, NotIssued, Unavailable
from kipuka_core.testing.contracts.ca_backend import asked, check_as_approved
from kipuka_core.testing.pki import make_csr, make_key, make_root, name
from tests.acme.acme_kit import ALWAYS_VALID, approve, followed, issued, opened, ordered
from tests.acme.between import Ask, Between, Reply, Request
from tests.acme.pebble import Pebble, running_pebble

SPARE = make_root("Another Root")


async def test_without_declared_validity_the_order_asks_for_the_templates(tmp_path: Path, pebble: Pebble) -> None:
    async with opened(tmp_path, pebble.table(http_webroot=".")) as backend:
        approved = await approve(backend)
        certificate = await issued(backend, approved)
    check_as_approved(certificate, approved, backend.may_set)
    assert certificate.not_valid_after_utc == approved.template.not_after


async def test_with_declared_validity_it_asks_for_none(tmp_path: Path, misbehaving: Between) -> None:
    async with opened(tmp_path, misbehaving.table(http_webroot=".", sets_validity_days=1826)) as backend:
        certificate = await issued(backend, await approve(backend))
    (order,) = misbehaving.seen("/order-plz")
    assert order.payload == {"identifiers": [{"type": "dns", "value": "device.example"}]}
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc > timedelta(days=1800)


@pytest.mark.parametrize(
    ("san", "more", "problem"),
    [
        ((), {}, "ask for one in the SubjectAltName"),
        (("uri:urn:device",), {}, "has a UniformResourceIdentifier"),
        (("dns:a.example", "email:a@a.example"), {}, "has a RFC822Name"),
        (("dns:a.example",), {"common_name": "pump 7"}, "commonName 'pump 7' is not among"),
        (("dns:a.example",), {"common_name": "b.example"}, "commonName 'b.example' is not among"),
        (("dns:a.example",), {"subject": name(None, email="a@a.example")}, "emailAddress 'a@a.example' is not among"),
        (("dns:a.example",), {"san": (x509.DNSName("b.example"),)}, "a.example instead of b.example"),
        (
            ("dns:a.example",),
            {"san": (x509.DNSName("a.example"), x509.DNSName("b.example"))},
            "a.example instead of a.example, b.example",
        ),
    ],
)
async def test_names_that_acme_has_not_are_refused_before_ordering(
    tmp_path: Path, misbehaving: Between, san: tuple[str, ...], more: dict[str, Any], problem: str
) -> None:
    table = misbehaving.table()
    if "subject" in more:
        del table["keeps_subject"]
    async with opened(tmp_path, table) as backend:
        csr_der = make_csr(make_key(), more.get("common_name"), san)
        approved = await approve(backend, *san, csr_der=csr_der, **more)
        with pytest.raises(CsrRefused) as raised:
            await backend.issue(approved)
    assert problem in raised.value.reason
    assert misbehaving.seen("/order-plz") == []


async def test_names_are_compared_without_case(tmp_path: Path, pebble: Pebble) -> None:
    async with opened(tmp_path, pebble.table(http_webroot=".")) as backend:
        approved = await approve(backend, "dns:Pump.Example", common_name="PUMP.example")
        certificate = await issued(backend, approved)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [each.lower() for each in names.get_values_for_type(x509.DNSName)] == ["pump.example"]


async def test_an_order_that_the_ca_does_not_know_was_not_issued(tmp_path: Path) -> None:
    """Pebble forgets everything when it ends: the account too, which is made anew on the way."""
    with running_pebble(tmp_path / "pebble", environment=ALWAYS_VALID) as pebble:
        async with opened(tmp_path, pebble.table(http_webroot=".")) as backend:
            approved = await approve(backend)
            reference = await ordered(backend, approved)
            pebble.kill()
            with pytest.raises(Unavailable, match="cannot be reached"):
                await backend.poll(asked(approved, reference))
            with pytest.raises(Unavailable, match="cannot be reached"):
                await backend.issue(approved)
            pebble.start()
            with pytest.raises(NotIssued):
                await backend.poll(asked(approved, reference))
        async with opened(tmp_path, pebble.table(http_webroot=".")) as backend:  # its own certificates are new too
            await issued(backend, await approve(backend))


async def test_without_a_reference_nothing_was_issued(tmp_path: Path, misbehaving: Between) -> None:
    async with opened(tmp_path, misbehaving.table()) as backend:
        approved = await approve(backend)
        await backend.issue(approved)
        before = len(misbehaving.requests)
        with pytest.raises(NotIssued):
            await backend.poll(asked(approved))
    assert backend.finds
    assert len(misbehaving.requests) == before


async def test_a_reference_of_something_else_is_for_a_person(tmp_path: Path, misbehaving: Between) -> None:
    async with opened(tmp_path, misbehaving.table()) as backend:
        approved = await approve(backend)
        before = len(misbehaving.requests)
        for reference in ("17", "http://127.0.0.1/order", "https://127.0.0.1/order#presented=soon"):
            with pytest.raises(Unavailable, match="not that of an ACME order"):
                await backend.poll(asked(approved, reference))
    assert len(misbehaving.requests) == before


async def test_what_is_issued_is_given_again(tmp_path: Path, misbehaving: Between) -> None:
    """A crash after the CA has issued: the same certificate, and nothing is finalised twice."""
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        approved = await approve(backend)
        references = [await ordered(backend, approved)]
        first = await followed(backend, approved, references[0], references=references)
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        for reference in references:
            assert await followed(backend, approved, reference) == first
    assert len(misbehaving.seen("/finalize-order/")) == 1


async def test_a_revocation_goes_to_the_ca(tmp_path: Path, pebble: Pebble) -> None:
    async with opened(tmp_path, pebble.table(http_webroot=".")) as backend:
        certificate = await issued(backend, await approve(backend))
        assert pebble.certificate_status(certificate) == "Valid"
        await backend.revoke(certificate, 1)
        assert pebble.certificate_status(certificate) == "Revoked"
        await backend.revoke(certificate, 1)


async def test_a_reason_that_the_ca_does_not_take_is_left_out(tmp_path: Path, misbehaving: Between) -> None:
    def rule(request: Request, ask: Ask) -> Reply:
        if request.path == "/revoke-cert" and request.payload["reason"] != 0:
            return Reply.problem("badRevocationReason")
        return ask()

    misbehaving.rule = rule
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        certificate = await issued(backend, await approve(backend))
        with pytest.raises(NotAllowed):
            await backend.revoke(certificate, 6)  # a hold, which would be for ever
        assert misbehaving.pebble.certificate_status(certificate) == "Valid"
        await backend.revoke(certificate, 9)
    assert misbehaving.pebble.certificate_status(certificate) == "Revoked"


async def test_a_certificate_of_another_account_is_not_revoked(tmp_path: Path, pebble: Pebble) -> None:
    async with opened(tmp_path / "one", pebble.table(http_webroot=str(tmp_path))) as backend:
        certificate = await issued(backend, await approve(backend))
    async with opened(tmp_path / "other", pebble.table()) as backend:
        with pytest.raises(NotAllowed, match="the certification authority refuses: "):
            await backend.revoke(certificate, 1)
    assert pebble.certificate_status(certificate) == "Valid"


def with_renewal_info(request: Request, ask: Ask) -> Reply:
    """What pebble cannot do yet (RFC 9773)."""
    reply = ask()
    if request.path == "/dir":
        body = reply.body.replace(b'"newNonce"', b'"renewalInfo": "https://127.0.0.1/renewal", "newNonce"')
        return Reply(reply.status, body, reply.headers)
    return reply


async def test_a_renewal_says_what_it_replaces(tmp_path: Path, misbehaving: Between) -> None:
    misbehaving.rule = with_renewal_info
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        first = await issued(backend, await approve(backend))
        await issued(backend, await approve(backend, renewing=first))
        await issued(backend, await approve(backend, renewing=SPARE.leaf("device").certificate))
    replaces = [each.payload.get("replaces") for each in misbehaving.seen("/order-plz")]
    assert [each is None for each in replaces] == [True, False, True]
    key_id, _, serial = replaces[1].partition(".")
    assert key_id
    assert serial


async def test_without_renewal_info_it_says_nothing(tmp_path: Path, misbehaving: Between) -> None:
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        first = await issued(backend, await approve(backend))
        await issued(backend, await approve(backend, renewing=first))
    assert not any("replaces" in each.payload for each in misbehaving.seen("/order-plz"))


async def test_a_renewal_that_the_ca_does_not_take_as_one_is_ordered_all_the_same(
    tmp_path: Path, misbehaving: Between
) -> None:
    def rule(request: Request, ask: Ask) -> Reply:
        if request.path == "/order-plz" and "replaces" in request.payload:
            return Reply.problem("alreadyReplaced", "it has been replaced", 409)
        return with_renewal_info(request, ask)

    misbehaving.rule = rule
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        first = await issued(backend, await approve(backend))
        await issued(backend, await approve(backend, renewing=first))
    assert ["replaces" in each.payload for each in misbehaving.seen("/order-plz")] == [False, True, False]


async def test_a_profile_is_ordered_where_the_ca_offers_it(tmp_path: Path, misbehaving: Between) -> None:
    def rule(request: Request, ask: Ask) -> Reply:
        reply = ask()
        if request.path == "/dir":
            body = reply.body.replace(b'"meta": {', b'"meta": {"profiles": {"shortlived": "six days"},')
            return Reply(reply.status, body, reply.headers)
        return reply

    misbehaving.rule = rule
    async with opened(tmp_path, misbehaving.table(http_webroot=".", profile="shortlived")) as backend:
        await issued(backend, await approve(backend))
    assert [each.payload["profile"] for each in misbehaving.seen("/order-plz")] == ["shortlived"]
    with pytest.raises(ConfigurationError, match="ca.pebble.profile: .* 'other'; it offers: shortlived"):  # noqa: RUF043
        async with opened(tmp_path, misbehaving.table(profile="other")):
            pass


async def test_a_certificate_by_an_unknown_issuer_waits_until_its_chain_is_configured(
    tmp_path: Path, pebble: Pebble
) -> None:
    (tmp_path / "old.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in OLD.chain))
    warnings: list[str] = []
    async with opened(tmp_path, pebble.table(chain="old.pem", http_webroot="."), warn=warnings.append) as backend:
        approved = await approve(backend)
        reference = await ordered(backend, approved)
        for _ in range(2):
            with pytest.raises(Unavailable, match="under a certificate that this server does not know"):
                await followed(backend, approved, reference)
    (warning,) = warnings
    assert "ca.pebble.chain: no file begins with CN=Pebble Intermediate CA" in warning
    both = pebble.table(chain=["old.pem", str(pebble.chain_file)], http_webroot=".")
    async with opened(tmp_path, both) as backend:
        certificate = await followed(backend, approved, reference)
        chain = await backend.chain()
    assert chain.certificates == OLD.chain
    certificate.verify_directly_issued_by(chain.previous[0])


OLD = SPARE.subordinate("Old Intermediate")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "does not hold PEM certificates"),
        (OLD.pem, "ends before the root; add the certificate of CN=Another Root"),
        (SPARE.pem + OLD.pem, "did not issue"),
        (SPARE.leaf("device").certificate_pem + SPARE.pem, "is not a CA's"),
        (OLD.pem + make_root("Another Root").pem, "did not issue"),
    ],
    ids=["nothing", "no root", "reversed", "a leaf", "another root"],
)
async def test_a_chain_that_is_none_stops_the_start(
    tmp_path: Path, pebble: Pebble, content: bytes, problem: str
) -> None:
    (tmp_path / "chain.pem").write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"ca\.pebble\.chain: .*{problem}"):
        async with opened(tmp_path, pebble.table(chain="chain.pem")):
            pass
