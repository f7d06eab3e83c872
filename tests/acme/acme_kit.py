"""An open backend, and requests for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509

from kipuka_acme.backend import PROVIDER
from kipuka_core import Approved, CaBackend, Issued, Wait
from kipuka_core.testing.contracts.ca_backend import asked
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template
from kipuka_core.testing.services import make_services

ALWAYS_VALID = {"PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_AUTHZREUSE": "0"}


@asynccontextmanager
async def opened(directory: Path, table: dict[str, Any], **services: Any) -> AsyncIterator[CaBackend]:
    """The backend that a ``[[ca]]`` table makes."""
    async with PROVIDER.open(PROVIDER.settings(**table), make_services(directory, **services)) as backend:
        yield backend


async def approve(
    backend: CaBackend,
    *san: str,
    common_name: str | None = None,
    renewing: x509.Certificate | None = None,
    csr_der: bytes | None = None,
    **fields: Any,
) -> Approved:
    """A template for these names, as policies would have left it; the subject is the first name, as pebble has it."""
    wanted = san or ("dns:device.example",)
    first = wanted[0].partition(":")[2] if common_name is None else common_name
    csr = sample_csr(csr_der or make_csr(make_key(), first, wanted))
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    values = {"not_before": start, "not_after": start + timedelta(days=30)} | fields
    enrolment = replace(sample_enrolment(csr), request_id=uuid4().hex, time=datetime.now(UTC), renewing=renewing)
    template = backend.may_set.applied(sample_template(csr, **values))
    return Approved(template=template, enrolment=enrolment, issuer=(await backend.chain()).issuing)


async def ordered(backend: CaBackend, approved: Approved) -> str:
    """Make the order; its reference."""
    outcome = await backend.issue(approved)
    assert isinstance(outcome, Wait)
    assert outcome.retry_after_seconds == 0
    return outcome.reference


async def polled(backend: CaBackend, approved: Approved, reference: str) -> tuple[str, int]:
    """One step that does not bring the certificate: the reference to record, and after how many seconds to go on."""
    outcome = await backend.poll(asked(approved, reference))
    assert isinstance(outcome, Wait)
    assert outcome.retry_after_seconds is not None
    return outcome.reference, outcome.retry_after_seconds


async def followed(
    backend: CaBackend, approved: Approved, reference: str, *, references: list[str] | None = None
) -> x509.Certificate:
    """Poll as the core does, until there is a certificate; ``references`` collects what was put on record."""
    async with asyncio.timeout(60):
        while True:
            outcome = await backend.poll(asked(approved, reference))
            if isinstance(outcome, Issued):
                return outcome.certificate
            assert outcome.retry_after_seconds is not None
            reference = outcome.reference
            if references is not None:
                references.append(reference)
            await asyncio.sleep(min(outcome.retry_after_seconds, 1))


async def issued(backend: CaBackend, approved: Approved) -> x509.Certificate:
    """All the way."""
    return await followed(backend, approved, await ordered(backend, approved))


def names(certificate: x509.Certificate) -> Sequence[str]:
    """The SubjectAltName as text."""
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(str(each.value) for each in san)
