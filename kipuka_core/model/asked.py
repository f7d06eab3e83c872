"""A request that a CA has been asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from kipuka_core.model.certificate import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """As it is on record: what a backend is given to find out what became of it."""

    request_id: str
    """The same that ``Approved.enrolment.request_id`` was."""
    template: Template
    """What was approved."""
    csr_der: bytes = field(repr=False)
    issuer: x509.Certificate
    """The CA's certificate when it was asked."""
    reference: str
    """What the CA knows the request by, as the last Wait said; empty: ``issue`` was called, and what came of it is
    unknown."""
    asked_at: datetime
