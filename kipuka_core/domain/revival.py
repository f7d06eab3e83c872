"""A remembered request as the enrolment that it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from cryptography import x509

from kipuka_core.domain.ports import CsrReader
from kipuka_core.domain.template_record import template_of
from kipuka_core.errors import RequestRefused
from kipuka_core.model.certificate import Approved
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.identity import ClientIdentity, OneTimeCredential
from kipuka_core.model.label import Label
from kipuka_core.model.record import AtCa, StoredRequest
from kipuka_core.model.request import Connection, Operation


def enrolment_of(stored: StoredRequest, labels: Mapping[str, Label], reader: CsrReader, now: datetime) -> Enrolment:
    """As if it had come now. Raises RequestRefused for a label that is not there any more."""
    label = labels.get(stored.label)
    if label is None:
        raise RequestRefused(f"the label {stored.label!r} of this request is not configured any more")
    certificate = stored.client_certificate_der and x509.load_der_x509_certificate(stored.client_certificate_der)
    return Enrolment(
        request_id=stored.id,
        operation=Operation(stored.operation),
        label=label,
        identity=ClientIdentity(
            authenticator=stored.authenticator,
            entity_id=stored.entity_id,
            names=frozenset(stored.names),
            certificate=certificate or None,
            one_time=OneTimeCredential(stored.otp_id, stored.subject_pattern) if stored.otp_id else None,
        ),
        csr=reader.decode(stored.csr_der),
        connection=Connection(
            source_address=stored.source_address,
            tls_version=stored.tls_version,
            client_chain=(certificate,) if certificate else (),
        ),
        time=now,
    )


def approved_of(
    stored: StoredRequest, at_ca: AtCa, labels: Mapping[str, Label], reader: CsrReader, now: datetime
) -> Approved:
    """What a CA was asked for, as it was approved then. Raises as :func:`enrolment_of`, and ValueError."""
    enrolment = enrolment_of(stored, labels, reader, now)
    return Approved(
        template=template_of(at_ca.template_der),
        enrolment=replace(enrolment, label=replace(enrolment.label, ca_id=at_ca.ca_id)),
        issuer=x509.load_der_x509_certificate(at_ca.issuer_der),
    )
