"""The template that a CSR starts with, before any policy shapes it (protocol rows 20 and 21)."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509

from kipuka_core.model.certificate import Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.key_type import key_type_of

BACKDATED_BY = timedelta(minutes=5)
"""How far notBefore lies in the past, for devices whose clock is behind."""
LONGEST = timedelta(days=3650)
"""What no certificate outlives even with every policy switched off."""


def initial_template(
    enrolment: Enrolment, issuer: x509.Certificate, longest_validity: timedelta | None = None
) -> Template:
    """The CSR's names and key, with the key usages of the label and the longest validity that can be given.

    The names are those of ChangeSubjectName where the CSR has one (RFC 6402 2.8; whether it may is the renewal rule's
    matter), and the renewed certificate's SAN where the label carries it over.
    """
    csr = enrolment.csr
    subject, san = csr.subject, csr.san
    if csr.change_subject_name is not None:
        subject = csr.change_subject_name.subject or subject
        san = csr.change_subject_name.san or san
    not_before = max(enrolment.time - BACKDATED_BY, issuer.not_valid_before_utc).replace(microsecond=0)
    return Template(
        subject=subject,
        spki_der=csr.spki_der,
        san=san or (),
        key_usage=default_key_usage(enrolment),
        ext_key_usage=enrolment.label.rules.ext_key_usage,
        not_before=not_before,
        not_after=min(not_before + (longest_validity or LONGEST), issuer.not_valid_after_utc),
    )


def default_key_usage(enrolment: Enrolment) -> frozenset[str]:
    """What the label says, else digitalSignature, with keyEncipherment for RSA only (RFC 5280 4.2.1.3, RFC 8813)."""
    if enrolment.label.rules.key_usage is not None:
        return frozenset(enrolment.label.rules.key_usage)
    key_type = key_type_of(enrolment.csr.public_key)
    if key_type is not None and key_type.family == "rsa":
        return frozenset({"digitalSignature", "keyEncipherment"})
    return frozenset({"digitalSignature"})
