"""What the tests of CA backends for CAs elsewhere share."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core import Approved, CaBackend
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template


async def approved_by(
    backend: CaBackend,
    *,
    request_id: str = "0123456789abcdef",
    key: CertificateIssuerPrivateKeyTypes | None = None,
    common_name: str | None = "device",
    san: Sequence[str] = ("dns:device.example",),
    **fields: Any,
) -> Approved:
    """A request as the core hands it to a backend."""
    csr = sample_csr(make_csr(key or make_key(), common_name, san))
    now = datetime.now(UTC).replace(microsecond=0)
    values = {"not_before": now - timedelta(minutes=5), "not_after": now + timedelta(days=30)} | fields
    template = backend.may_set.applied(sample_template(csr, **values))
    enrolment = replace(sample_enrolment(csr), request_id=request_id, time=now)
    return Approved(template=template, enrolment=enrolment, issuer=(await backend.chain()).issuing)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Every line of the log; each of them is one line."""
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert all("\n" not in message for message in messages)
    return "\n".join(messages)
