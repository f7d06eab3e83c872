"""What came back from the CA is what was approved, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID

from kipuka_core.errors import PostcheckFailed
from kipuka_core.model.certificate import CaProfile, Template
from kipuka_core.model.key_usage import key_usage_names
from kipuka_core.model.names import same_san

CHECKED_OR_COMMON = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        # What every CA adds by itself:
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    }
)
"""Extensions that a certificate may have without having been approved, or that are compared one by one."""
_FOLLOWS = CaProfile()
_INCLUSIVE = timedelta(seconds=1)
"""RFC 5280 4.1.2.5: notAfter belongs to the validity."""
_CLOCKS_DIFFER = timedelta(minutes=10)
_POINTERS = frozenset({ExtensionOID.CRL_DISTRIBUTION_POINTS, ExtensionOID.AUTHORITY_INFORMATION_ACCESS})


def check_issued(
    certificate: x509.Certificate,
    template: Template,
    issuer: x509.Certificate,
    *,
    pointers: Sequence[x509.ExtensionType] | None = None,
    profile: CaProfile = _FOLLOWS,
) -> None:
    """Hold a certificate against the approved template, which the profile of its CA has been applied to.

    ``pointers``: the CRL distribution points and authority information access that it has to have; None: any.
    ``profile``: what the CA decides by itself; of that, how long before the template it may begin, and further
    extensions, are not in the template.

    Raises PostcheckFailed, naming the field that differs.
    """
    try:
        _check(certificate, template, profile)
        if pointers is not None:
            _check_pointers(certificate.extensions, pointers)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise PostcheckFailed(f"it cannot be read: {type(error).__name__}") from error
    _check_issuer(certificate, issuer)


def _check(certificate: x509.Certificate, template: Template, profile: CaProfile) -> None:
    spki_der = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if spki_der != template.spki_der:
        raise PostcheckFailed("it holds another public key")
    if certificate.subject != template.subject:
        raise PostcheckFailed("it has another subject")
    _check_validity(certificate, template, profile)
    _check_extensions(certificate.extensions, template, profile)


def _check_validity(certificate: x509.Certificate, template: Template, profile: CaProfile) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= begins:
        raise PostcheckFailed("it is never valid")
    if profile.validity is not None:
        # It begins when the CA likes: the duration counts, and that it is not for the future.
        if ends - begins > profile.validity + _INCLUSIVE:
            raise PostcheckFailed("it is valid for longer than its CA was said to issue for")
        if ends > template.not_after + _CLOCKS_DIFFER:
            raise PostcheckFailed("it is valid for longer")
        return
    if ends > template.not_after:
        raise PostcheckFailed("it is valid for longer")
    if begins < template.not_before:
        raise PostcheckFailed("it is valid from an earlier time")


def _check_extensions(extensions: x509.Extensions, template: Template, profile: CaProfile) -> None:
    found: dict[x509.ObjectIdentifier, Any] = {each.oid: each.value for each in extensions}
    constraints = found.get(ExtensionOID.BASIC_CONSTRAINTS)
    if constraints is not None and constraints.ca:
        raise PostcheckFailed("it is a CA certificate")
    if not same_san(found.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME), template.san):
        raise PostcheckFailed("it has another SubjectAltName")
    key_usage = found.get(ExtensionOID.KEY_USAGE)
    if (key_usage_names(key_usage) if key_usage else frozenset()) != template.key_usage:
        raise PostcheckFailed("it has another key usage")
    ext_key_usage = {oid.dotted_string for oid in found.get(ExtensionOID.EXTENDED_KEY_USAGE, ())}
    if ext_key_usage != set(template.ext_key_usage):
        raise PostcheckFailed("it has another extended key usage")
    approved = {each.oid: (each.critical, each.value) for each in template.extensions}
    further = {
        each.oid: (each.critical, each.value)
        for each in extensions
        if each.oid not in CHECKED_OR_COMMON
        and (each.oid in approved or each.oid.dotted_string not in profile.extensions)
    }
    if further != approved:
        raise PostcheckFailed("it has other extensions")


def _check_pointers(extensions: x509.Extensions, pointers: Sequence[x509.ExtensionType]) -> None:
    found = {each.oid: (each.critical, each.value) for each in extensions if each.oid in _POINTERS}
    if found != {each.oid: (False, each) for each in pointers}:
        raise PostcheckFailed("it points to other CRLs, OCSP responders or issuer certificates")


def _check_issuer(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PostcheckFailed("it is not signed by the CA") from error
