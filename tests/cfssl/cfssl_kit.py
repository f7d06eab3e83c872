"""The backend, opened for a test; approved templates for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509

from kipuka_cfssl.provider import PROVIDER
from kipuka_core import Approved, CaBackend, Event
from kipuka_core.testing.pki import make_csr, make_key, name
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template
from kipuka_core.testing.services import make_services


@dataclass
class Opened:
    """Opens backends and keeps what they say."""

    directory: Path
    events: list[Event] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def open(self, settings: Mapping[str, Any]) -> AbstractAsyncContextManager[CaBackend]:
        async def emit(event: Event) -> None:
            self.events.append(event)

        services = make_services(self.directory, emit=emit, warn=self.warnings.append)
        return PROVIDER.open(PROVIDER.settings(**settings), services)

    @property
    def said(self) -> str:
        """All reasons so far."""
        return "\n".join(event.reason for event in self.events)


async def approved_for(
    backend: CaBackend,
    subject: x509.Name | None = None,
    san: Sequence[str] = ("dns:device.example",),
    *,
    key_type: str = "ecdsa256",
    csr_subject: x509.Name | None = None,
    entries: Sequence[x509.GeneralName] | None = None,
    **fields: Any,
) -> Approved:
    """A template for a subject, judged as the core does; ``csr_subject`` where the CSR has another one.

    ``entries`` is a SubjectAltName that was approved, whatever the CSR has.
    """
    subject = name("device") if subject is None else subject
    asked_for = subject if csr_subject is None else csr_subject
    csr = sample_csr(make_csr(make_key(key_type), None, san, subject=asked_for))
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    if entries is not None:
        fields["san"] = tuple(entries)
    values = {"subject": subject, "not_before": start, "not_after": start + timedelta(days=30)} | fields
    enrolment = replace(sample_enrolment(csr), request_id=uuid4().hex, time=datetime.now(UTC))
    template = backend.may_set.applied(sample_template(csr, **values))
    return Approved(template=template, enrolment=enrolment, issuer=(await backend.chain()).issuing)
