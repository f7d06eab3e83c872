"""The core rules (invariant 8): they hold whatever is configured, with every policy switched off."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from kipuka_core.errors import ConfigurationError, CsrRefused
from kipuka_core.model.certificate import Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.key_usage import key_usage_names
from kipuka_core.model.label import Label
from kipuka_core.model.request import Csr

CMC_RA = "1.3.6.1.5.5.7.3.28"
"""id-kp-cmcRA (RFC 6402 2.10): who holds it is a registration authority to every EST client and server."""
NEVER_ISSUED_EKUS: dict[str, str] = {
    CMC_RA: "id-kp-cmcRA",
    ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string: "OCSPSigning",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string: "anyExtendedKeyUsage",
}
NEVER_ISSUED_KEY_USAGES = frozenset({"keyCertSign", "cRLSign"})
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH.dotted_string

DECIDED_BY_TEMPLATE_FIELDS = frozenset(
    oid.dotted_string
    for oid in (
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
    )
)
_CA_S_OWN = frozenset(
    oid.dotted_string
    for oid in (
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    )
)
_GIVEN_ANYWAY = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.SUBJECT_KEY_IDENTIFIER})
"""CA:FALSE and the identifier of its own key are in every certificate: asking for them changes nothing."""


def check_label(label: Label) -> None:
    """Refuse, at start-up, a label that could only issue what the rules forbid.

    Raises ConfigurationError.
    """
    where = f"est.label {label.name!r}: ext_key_usage" if label.name else "enrollment.ext_key_usage"
    for oid in label.rules.ext_key_usage:
        if oid in NEVER_ISSUED_EKUS:
            raise ConfigurationError(where, f"{NEVER_ISSUED_EKUS[oid]} is never issued to a device; remove it")
    usages = NEVER_ISSUED_KEY_USAGES.intersection(label.rules.key_usage or ())
    if usages:
        raise ConfigurationError(
            where.replace("ext_key_usage", "key_usage"),
            f"{', '.join(sorted(usages))} is for CA certificates; remove it",
        )


def check_csr(csr: Csr) -> None:
    """Refuse a CSR that asks for authority over other certificates (protocol row 21).

    Raises CsrRefused.
    """
    for extension in csr.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise CsrRefused(
                "the CSR asks for a CA certificate (basicConstraints CA:TRUE); remove that", code="ca_requested"
            )
        if isinstance(value, x509.KeyUsage):
            _refuse(key_usage_names(value) & NEVER_ISSUED_KEY_USAGES, "key usage")
        if isinstance(value, x509.ExtendedKeyUsage):
            _refuse({NEVER_ISSUED_EKUS.get(oid.dotted_string, "") for oid in value} - {""}, "extended key usage")


def check_template(template: Template, enrolment: Enrolment, issuer: x509.Certificate) -> None:
    """Refuse a final template that breaks a core rule, whoever shaped it that way.

    Raises CsrRefused.
    """
    _check_key_and_time(template, enrolment, issuer)
    _refuse(template.key_usage & NEVER_ISSUED_KEY_USAGES, "key usage")
    _refuse(
        {NEVER_ISSUED_EKUS[oid] for oid in template.ext_key_usage if oid in NEVER_ISSUED_EKUS}, "extended key usage"
    )
    if SERVER_AUTH in template.ext_key_usage and SERVER_AUTH not in enrolment.label.rules.ext_key_usage:
        _refuse({"serverAuth"}, "extended key usage")
    _check_further_extensions(template)
    _check_nothing_dropped(template, enrolment.csr)
    if not template.san and not template.subject.rdns:
        raise CsrRefused("the certificate would name nobody: give it a subject or a SubjectAltName", code="no_name")


def _check_key_and_time(template: Template, enrolment: Enrolment, issuer: x509.Certificate) -> None:
    if template.spki_der != enrolment.csr.spki_der:
        raise CsrRefused("the certificate would hold another key than the CSR", code="key_changed")
    if template.not_after > issuer.not_valid_after_utc:
        raise CsrRefused("the certificate would outlive its issuer", code="validity_beyond_issuer")
    if template.not_after <= max(template.not_before, enrolment.time):
        raise CsrRefused("the certificate would be expired from the start", code="validity_empty")


def _check_further_extensions(template: Template) -> None:
    seen: set[str] = set()
    for extension in template.extensions:
        oid = extension.oid.dotted_string
        if oid in DECIDED_BY_TEMPLATE_FIELDS or oid in _CA_S_OWN or oid in seen:
            raise CsrRefused(f"the extension {oid} is not for a CSR to bring", code="extension_not_allowed")
        seen.add(oid)


def _check_nothing_dropped(template: Template, csr: Csr) -> None:
    """What a CSR asks for is granted or refused, never silently left out."""
    granted = {extension.oid for extension in template.extensions}
    for extension in csr.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage):
            _refuse(key_usage_names(value) - template.key_usage, "key usage")
        elif isinstance(value, x509.ExtendedKeyUsage):
            _refuse({oid.dotted_string for oid in value} - set(template.ext_key_usage), "extended key usage")
        elif isinstance(value, x509.SubjectAlternativeName) or extension.oid in _GIVEN_ANYWAY:
            continue  # which names a certificate gets is for the policies to say
        elif extension.oid not in granted:
            raise CsrRefused(
                f"the CSR asks for the extension {extension.oid.dotted_string}, which is not issued here; remove it",
                code="extension_not_allowed",
            )


def _refuse(what: set[str] | frozenset[str], kind: str) -> None:
    if what:
        names = ", ".join(sorted(what))
        raise CsrRefused(
            f"the CSR asks for the {kind} {names}, which is not issued here; remove it", code="usage_not_allowed"
        )
