"""What every CA backend has to do: sign what was approved, nothing else, for any number of requests at once.

class TestMyCa(CaBackendContract):
    provider = PROVIDER

    @pytest.fixture
    def settings(self, tmp_path):
        return {"url": "https://ca.example"}
"""
# ruff: noqa: S101 - a contract suite is made of assertions

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.external import OUTCOMES
from kipuka_core.domain.postcheck import CHECKED_OR_COMMON
from kipuka_core.errors import NotIssued, Unavailable
from kipuka_core.model.asked import Asked
from kipuka_core.model.certificate import Approved, CaChain, CaProfile, Issued, Template
from kipuka_core.model.issued_by import issued_by
from kipuka_core.model.key_usage import key_usage_names
from kipuka_core.model.names import same_san, san_of
from kipuka_core.model.verdict import Wait
from kipuka_core.testing.contracts.asking import asked as answer_of
from kipuka_core.testing.contracts.asking import cancelled_at_every_step, check_nothing_shows
from kipuka_core.testing.contracts.loop_turns import loop_goes_round
from kipuka_core.testing.contracts.port import PortContract
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template

OpenCa = Callable[[], AbstractAsyncContextManager[CaBackend]]
_LEAST_SERIAL_BITS = 64
_MOST_SERIAL_BITS = 159
"""RFC 5280 4.1.2.2: positive and at most 20 octets, of which DER spends one bit on the sign."""


@pytest.mark.asyncio
class CaBackendContract(PortContract):
    """Subclass with ``provider``, and override the fixtures ``settings`` and ``services`` as the backend needs."""

    port_type = CaBackend
    subject_key_types: ClassVar[Sequence[str]] = ("ecdsa256", "ecdsa384", "rsa2048", "ed25519")
    """Keys that the contract asks certificates for. Leave out what the CA behind the backend does not certify."""
    issues_further_extensions: ClassVar[bool] = True
    """False: the CA behind the backend has none but its own."""
    names_without_subject: ClassVar[bool] = True
    """False: the CA does not certify a key without a subject."""
    names_without_san: ClassVar[bool] = True
    """False: the CA does not certify a key without a SubjectAltName."""
    issues_without_reference: ClassVar[bool] = True
    """False: nothing is issued before the core has a reference on record, so without one nothing was."""
    least_serial_bits: ClassVar[int] = _LEAST_SERIAL_BITS
    """Fewer: the CA that the backend is tested with, one for tests itself, has shorter serials."""
    requests_at_once: ClassVar[int] = 50
    timeout_seconds: ClassVar[float] = 10
    """As ``[plugins] timeout``: a later answer is a refusal."""

    @pytest_asyncio.fixture
    async def backend(self, open_port: OpenCa) -> AsyncIterator[CaBackend]:
        """The backend, open."""
        async with open_port() as backend:
            yield backend

    async def test_its_chain_leads_from_the_issuer_to_the_root(self, backend: CaBackend) -> None:
        """What ``/cacerts`` hands out is complete (RFC 7030 4.1.3)."""
        chain = await self._chain(backend)
        for lower, upper in pairwise(chain.certificates):
            assert issued_by(upper, lower), (
                "in certificates each one is followed by its issuer; others belong into CaChain.previous"
            )
        root = chain.certificates[-1]
        assert issued_by(root, root), "the chain ends before the root: add it, kipuka.up_to_the_root helps"
        for certificate in chain.certificates:
            assert _is_ca(certificate), f"{certificate.subject.rfc4514_string()} in the chain is no CA certificate"

    async def test_it_certifies_every_key_type_as_approved(self, backend: CaBackend) -> None:
        """Key, names, usages, validity and signature are those of the template."""
        for key_type in self.subject_key_types:
            approved = await self._approved(backend, key_type=key_type)
            check_as_approved(await self._issue(backend, approved), approved, backend.may_set)

    async def test_a_certificate_without_a_subject_has_a_critical_san(self, backend: CaBackend) -> None:
        """RFC 5280 4.1.2.6."""
        if not self.names_without_subject:
            return
        approved = await self._approved(backend, common_name=None, san=("dns:device.example", "ip:192.0.2.1"))
        certificate = await self._issue(backend, approved)
        check_as_approved(certificate, approved, backend.may_set)
        assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical

    async def test_a_certificate_without_san_has_none(self, backend: CaBackend) -> None:
        """No entry is invented, and no empty extension (RFC 5280 4.2.1.6)."""
        if not self.names_without_san:
            return
        approved = await self._approved(backend, san=())
        assert san_of(await self._issue(backend, approved)) is None

    async def test_approved_further_extensions_are_issued(self, backend: CaBackend) -> None:
        """With their value and criticality."""
        if not self.issues_further_extensions:
            return
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
        further = x509.Extension(oid, critical=False, value=x509.UnrecognizedExtension(oid, b"\x05\x00"))
        approved = await self._approved(backend, extensions=(further,))
        extensions = (await self._issue(backend, approved)).extensions
        issued = next((each for each in extensions if each.oid == oid), None)
        assert issued is not None, "an approved further extension is missing: issue every one of template.extensions"
        assert (issued.critical, issued.value) == (further.critical, further.value), "a further extension is another"

    async def test_it_never_issues_beyond_its_own_end(self, backend: CaBackend) -> None:
        """Even when it is asked to."""
        issuer = (await self._chain(backend)).issuing
        approved = await self._approved(backend, not_after=issuer.not_valid_after_utc + timedelta(days=1))
        ends = (await self._issue(backend, approved)).not_valid_after_utc
        assert ends <= issuer.not_valid_after_utc, "a certificate outlives its issuer: end it with the issuer at latest"

    async def test_concurrent_requests_get_certificates_of_their_own(self, backend: CaBackend) -> None:
        """Each with its own names and key, and a serial that nobody could guess or has already."""
        all_approved = [
            await self._approved(backend, common_name=f"device-{number}", san=(f"dns:device-{number}",))
            for number in range(self.requests_at_once)
        ]
        certificates = await asyncio.gather(*(self._issue(backend, approved) for approved in all_approved))
        for certificate, approved in zip(certificates, all_approved, strict=True):
            check_as_approved(certificate, approved, backend.may_set)
        check_serials([certificate.serial_number for certificate in certificates], self.least_serial_bits)

    async def test_the_same_request_twice_gives_two_serials(self, backend: CaBackend) -> None:
        """RFC 5280 4.1.2.2: a serial is used once."""
        approved = await self._approved(backend)
        anew = replace(approved, enrolment=replace(approved.enrolment, request_id=uuid4().hex))
        first, second = [await self._issue(backend, each) for each in (approved, anew)]
        assert first.serial_number != second.serial_number, "two requests got one serial: x509.random_serial_number()"

    async def test_a_cancelled_request_leaves_it_working(self, backend: CaBackend) -> None:
        """A server that stops cancels at any await."""
        await cancelled_at_every_step(backend.chain, self.patience_seconds)
        if not backend.external:  # what was sent to a CA elsewhere is found again by its record, and not by this suite
            approved = await self._approved(backend)
            await cancelled_at_every_step(lambda: backend.issue(approved), self.patience_seconds)
        approved = await self._approved(backend)
        check_as_approved(await self._issue(backend, approved), approved, backend.may_set)

    async def test_it_lets_the_event_loop_go_round(self, backend: CaBackend) -> None:
        """While the CA works, everybody else is served."""
        approved = await self._approved(backend)
        with loop_goes_round(self._package):
            await self._chain(backend)
            await self._issue(backend, approved)
            await backend.ping()

    async def test_no_secret_is_shown(
        self, open_port: OpenCa, secrets: Sequence[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither in a repr nor in the log."""
        caplog.set_level(logging.DEBUG)
        async with open_port() as backend:
            await self._issue(backend, await self._approved(backend))
            shown = repr(backend)
        check_nothing_shows(secrets, repr_of_the_port=shown, the_log=caplog.text)

    async def test_what_became_of_a_request_is_found(self, backend: CaBackend) -> None:
        """Where ``finds`` is true: the certificate that there is, and nothing is asked for twice."""
        if not backend.finds:
            with pytest.raises(Unavailable):
                await backend.poll(asked(await self._approved(backend)))
            return
        approved = await self._approved(backend)
        references = [""]
        issued = await self._issue(backend, approved, references)
        found = await backend.poll(asked(approved, "" if self.issues_without_reference else references[-1]))
        assert isinstance(found, Issued), f"poll answers with {found!r} although the certificate was issued"
        assert found.certificate == issued, "poll finds another certificate than the one that was issued"
        with pytest.raises(NotIssued):
            await backend.poll(asked(await self._approved(backend)))

    async def test_what_is_revoked_may_be_revoked_again(self, backend: CaBackend) -> None:
        """Where ``revokes`` is true; elsewhere it is said that it cannot be done."""
        certificate = await self._issue(backend, await self._approved(backend))
        if not backend.revokes:
            with pytest.raises(Unavailable):
                await backend.revoke(certificate, 1)
            return
        for _ in range(2):
            await backend.revoke(certificate, 1)

    async def test_issuing_leaves_the_approved_template_alone(self, backend: CaBackend) -> None:
        """It is what the certificate is compared with afterwards."""
        approved = await self._approved(backend)
        before = replace(approved.template)
        await self._issue(backend, approved)
        assert approved.template == before, "issue writes into the approved template: leave it as it is"

    async def test_it_opens_and_closes_more_than_once(self, open_port: OpenCa) -> None:
        """With the same certificate each time."""
        issuers = []
        for _ in range(2):
            async with open_port() as backend:
                issuers.append((await self._chain(backend)).issuing)
                await backend.ping()
        assert issuers[0] == issuers[1], "opened again it has another issuer"

    async def _approved(
        self,
        backend: CaBackend,
        *,
        key_type: str = "ecdsa256",
        common_name: str | None = "device",
        san: Sequence[str] = ("dns:device.example",),
        **fields: Any,
    ) -> Approved:
        csr = sample_csr(make_csr(make_key(key_type), common_name, san))
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        values = {"not_before": start, "not_after": start + timedelta(days=30)} | fields
        issuer = (await self._chain(backend)).issuing
        enrolment = replace(sample_enrolment(csr), request_id=uuid4().hex, time=datetime.now(UTC))
        template = backend.may_set.applied(sample_template(csr, **values))
        return Approved(template=template, enrolment=enrolment, issuer=issuer)

    async def _issue(
        self, backend: CaBackend, approved: Approved, references: list[str] | None = None
    ) -> x509.Certificate:
        outcome = await answer_of(backend.issue, approved, expect=OUTCOMES, patience_seconds=self.timeout_seconds)
        assert backend.external or isinstance(outcome, Issued), (
            "issue answers with Wait: a CA whose requests can wait is outside of this process, external = True"
        )
        while isinstance(outcome, Wait):
            assert outcome.reference, "a Wait without a reference: say what the CA knows the request by"
            assert outcome.retry_after_seconds is not None, "a Wait without retry_after_seconds: say when to poll"
            if references is not None:
                references.append(outcome.reference)
            await asyncio.sleep(min(outcome.retry_after_seconds, 1))
            question = asked(approved, outcome.reference)
            outcome = await answer_of(backend.poll, question, expect=OUTCOMES, patience_seconds=self.timeout_seconds)
        return outcome.certificate

    async def _chain(self, backend: CaBackend) -> CaChain:
        return await answer_of(backend.chain, expect=CaChain, patience_seconds=self.timeout_seconds)


def asked(approved: Approved, reference: str = "") -> Asked:
    """What the core records of a request, and gives to ``poll``."""
    return Asked(
        request_id=approved.enrolment.request_id,
        template=approved.template,
        csr_der=approved.enrolment.csr.der,
        issuer=approved.issuer,
        reference=reference,
        asked_at=approved.enrolment.time,
    )


def check_as_approved(certificate: x509.Certificate, approved: Approved, profile: CaProfile) -> None:
    """Assert that a certificate is what was approved, but for what the backend declares to decide by itself."""
    template = approved.template
    assert issued_by(approved.issuer, certificate), "it is not signed by approved.issuer, the first of chain()"
    spki_der = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert spki_der == template.spki_der, "it holds another key than the approved one: sign template.spki_der"
    assert same_san(san_of(certificate), template.san), "its SubjectAltName is not the approved one"
    assert certificate.subject == template.subject, "its subject is not the approved one"
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert ends > begins, "it is never valid"
    if profile.validity is None:
        assert begins >= template.not_before, "it begins earlier than template.not_before"
        assert ends <= template.not_after, "it ends later than template.not_after"
    else:
        assert ends - begins <= profile.validity + timedelta(seconds=1), "it is valid for longer than may_set declares"
    _check_usages(certificate, template)
    allowed = {
        *(oid.dotted_string for oid in CHECKED_OR_COMMON),
        *profile.extensions,
        *(each.oid.dotted_string for each in template.extensions),
    }
    found = {each.oid.dotted_string for each in certificate.extensions}
    assert found <= allowed, f"it has extensions that were neither approved nor declared in may_set: {found - allowed}"


def check_serials(serials: Sequence[int], least_bits: int = _LEAST_SERIAL_BITS) -> None:
    """Assert that serials are RFC 5280's, all different, and too long and too far apart to be a counter."""
    assert len(set(serials)) == len(serials), "no serial is used twice"
    assert all(0 < serial.bit_length() <= _MOST_SERIAL_BITS for serial in serials), "at most 20 octets, positive"
    assert max(serials).bit_length() >= least_bits, f"a serial has at least {least_bits} random bits"
    ordered = sorted(serials)
    gaps = [upper - lower for lower, upper in pairwise(ordered)]
    assert max(gaps, default=2**32) >= 2**32, "serials are random and not counted"


def _is_ca(certificate: x509.Certificate) -> bool:
    return any(isinstance(each.value, x509.BasicConstraints) and each.value.ca for each in certificate.extensions)


def _check_usages(certificate: x509.Certificate, template: Template) -> None:
    values = [extension.value for extension in certificate.extensions]
    assert not any(isinstance(value, x509.BasicConstraints) and value.ca for value in values), "it is a CA certificate"
    usages = [key_usage_names(value) for value in values if isinstance(value, x509.KeyUsage)]
    assert usages == [template.key_usage], "its key usage is not the approved one, template.key_usage"
    ekus = {oid.dotted_string for value in values if isinstance(value, x509.ExtendedKeyUsage) for oid in value}
    assert ekus == set(template.ext_key_usage), "its extended key usage is not the approved one, template.ext_key_usage"
