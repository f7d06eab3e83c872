"""The renewal rule of RFC 7030 4.2.2: whose certificate can be renewed here, and with which names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from cryptography import x509

from kipuka_core.domain.ports import Store
from kipuka_core.errors import CsrRefused, NotAllowed
from kipuka_core.model.certificate import CaChain, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.issued_by import issued_by as names_and_signature_fit
from kipuka_core.model.label import Label, RenewFrom
from kipuka_core.model.names import same_san, same_subject, san_of
from kipuka_core.model.record import CertificateStatus, RecordedCertificate
from kipuka_core.model.request import Csr


@dataclass(frozen=True, slots=True)
class RenewalRule:
    """A rule of the core, not a policy: no configuration turns it off."""

    store: Store
    accept_unrecorded: bool = False

    async def check(self, enrolment: Enrolment, chain: CaChain) -> x509.Certificate:
        """Return the certificate that this request renews.

        Raises NotAllowed when it cannot be renewed here, CsrRefused when the CSR names somebody else.
        """
        certificate = enrolment.identity.certificate
        if certificate is None or certificate != enrolment.connection.client_certificate:
            raise NotAllowed("only the client certificate of the connection can be renewed", code="not_renewable")
        await self._check_origin(certificate, enrolment, chain)
        _check_names(enrolment.csr, certificate, enrolment.label)
        return certificate

    async def _check_origin(self, certificate: x509.Certificate, enrolment: Enrolment, chain: CaChain) -> None:
        label = enrolment.label
        issuer = own_issuer(certificate, chain)
        above = enrolment.connection.client_chain[1:2]
        signer = issuer or (above[0] if above else None)
        record = None
        if signer is not None:
            record = await self.store.find_certificate(issuer_key_id(signer), serial_hex(certificate))
        if record is not None:
            _check_record(record, label, own=issuer is not None)
        elif issuer is not None and not self.accept_unrecorded:
            raise NotAllowed(
                "this server has no record of the certificate that is to be renewed; enrol anew with simpleenroll",
                code="certificate_unrecorded",
            )
        elif issuer is None and label.renew_from is not RenewFrom.TRUSTED:
            raise NotAllowed(
                "the certificate was not issued by the CA that serves this path, so it cannot be renewed here;"
                " use simpleenroll",
                code="foreign_certificate",
            )


def own_issuer(certificate: x509.Certificate, chain: CaChain) -> x509.Certificate | None:
    """The current or previous certificate of the CA that signed ``certificate``, or None."""
    return next((issuer for issuer in (*chain.certificates, *chain.previous) if issued_by(issuer, certificate)), None)


def carried_over(template: Template, enrolment: Enrolment) -> Template:
    """The template with the renewed certificate's SAN, where the CSR has none and the label wants that (row 12)."""
    renewing = enrolment.renewing
    if renewing is None or enrolment.csr.san is not None or template.san or not enrolment.label.san_carry_over:
        return template
    return replace(template, san=san_of(renewing) or ())


def check_name_change(enrolment: Enrolment) -> None:
    """ChangeSubjectName (RFC 6402 2.8) only where the label allows it, on both operations (RFC 7030 4.2.1, 4.2.2).

    Raises NotAllowed.
    """
    if enrolment.csr.change_subject_name is not None and not enrolment.label.allow_name_change:
        raise NotAllowed(
            "the CSR asks for a change of its names (ChangeSubjectName), which is not allowed here", code="name_change"
        )


def _check_record(record: RecordedCertificate, label: Label, *, own: bool) -> None:
    if record.status is not CertificateStatus.ACTIVE:
        raise NotAllowed("the certificate that is to be renewed has been revoked", code="certificate_revoked")
    if not own and record.ca_id != label.ca_id and label.renew_from is not RenewFrom.TRUSTED:
        raise NotAllowed("the certificate was issued by another CA of this server", code="foreign_certificate")
    if record.label != label.name and record.label not in label.accept_from:
        raise NotAllowed("the certificate was issued at another path of this server", code="other_label")


def _check_names(csr: Csr, certificate: x509.Certificate, label: Label) -> None:
    if not same_subject(csr.subject, certificate.subject):
        raise CsrRefused(
            "the CSR's Subject is not that of the certificate being renewed; they have to be identical"
            " (RFC 7030 4.2.2)",
            code="subject_differs",
        )
    if csr.san is None and label.san_carry_over:
        return
    if not same_san(csr.san, san_of(certificate)):
        raise CsrRefused(
            "the CSR's SubjectAltName is not that of the certificate being renewed; they have to be identical"
            " (RFC 7030 4.2.2)",
            code="san_differs",
        )


@lru_cache(maxsize=4096)
def issued_by(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether ``issuer`` signed ``certificate`` and its name says so; remembered."""
    return issuer.subject == certificate.issuer and names_and_signature_fit(issuer, certificate)
