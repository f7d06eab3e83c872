"""Policy ``extensions``: key usage, extended key usage, and which further extensions a CSR may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from kipuka_core import (
    Allow,
    ConfigurationError,
    Csr,
    CsrAttributes,
    Deny,
    DenyKind,
    Enrolment,
    Label,
    Policy,
    Provider,
    Services,
    Settings,
    Template,
    Verdict,
    WantedExtension,
)
from kipuka_core.model.key_type import key_type_of
from kipuka_core.model.key_usage import key_usage_extension, key_usage_names
from kipuka_core.model.label import EnrollmentRules

_SIGNING = frozenset({"digitalSignature", "contentCommitment"})
_POSSIBLE_KEY_USAGES: dict[str, frozenset[str]] = {
    "rsa": _SIGNING | {"keyEncipherment", "dataEncipherment"},
    "ec": _SIGNING | {"keyAgreement", "encipherOnly", "decipherOnly"},
    "eddsa": _SIGNING,
    "ml-dsa": _SIGNING,
}
"""What an end entity's key can be used for, by its family (RFC 3279 2.3.1, 8813 3, 8410 5, 9881)."""
_ISSUED_BY_DEFAULT: dict[str, frozenset[str]] = {"rsa": frozenset({"digitalSignature", "keyEncipherment"})}
_CEILING_BY_DEFAULT: dict[str, frozenset[str]] = {
    "rsa": frozenset({"digitalSignature", "keyEncipherment"}),
    "ec": frozenset({"digitalSignature", "keyAgreement"}),
}
_DIGITAL_SIGNATURE = frozenset({"digitalSignature"})

_EKU_NAMES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "1.3.6.1.5.5.7.3.28": "cmcRA",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}
_EXTENSION_NAMES = {
    "2.5.29.9": "subjectDirectoryAttributes",
    "2.5.29.14": "subjectKeyIdentifier",
    "2.5.29.15": "keyUsage",
    "2.5.29.17": "subjectAltName",
    "2.5.29.18": "issuerAltName",
    "2.5.29.19": "basicConstraints",
    "2.5.29.30": "nameConstraints",
    "2.5.29.31": "cRLDistributionPoints",
    "2.5.29.32": "certificatePolicies",
    "2.5.29.33": "policyMappings",
    "2.5.29.35": "authorityKeyIdentifier",
    "2.5.29.36": "policyConstraints",
    "2.5.29.37": "extendedKeyUsage",
    "2.5.29.46": "freshestCRL",
    "2.5.29.54": "inhibitAnyPolicy",
    "1.3.6.1.5.5.7.1.1": "authorityInfoAccess",
    "1.3.6.1.5.5.7.1.24": "tlsFeature",
}
"""As RFC 5280 and the configuration spell them."""
_IN_TEMPLATE_FIELDS = frozenset(
    {ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)
_HARMLESS = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.SUBJECT_KEY_IDENTIFIER})
"""May be asked for and is not copied: every certificate gets CA:FALSE and the identifier of its own key anyway."""
_MADE_BY_THE_CA = frozenset(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.FRESHEST_CRL,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.INHIBIT_ANY_POLICY,
    }
)


class ExtensionsSettings(Settings):
    """``[policy.extensions]`` has no settings of its own: ``[enrollment]`` and the label say what is issued."""


class ExtensionsPolicy(Policy):
    """Gives what the label issues, less where a CSR asks for less, and refuses a CSR that asks for more."""

    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        """Set the key usages, and copy the further extensions that the label lists."""
        csr, rules = enrolment.csr, enrolment.label.rules
        family = _family(csr)
        wanted_usages, wanted_ekus = _requested_key_usage(csr), _requested_ekus(csr)
        key_usage = _issued_key_usages(rules, family)
        if wanted_usages is not None:
            key_usage = wanted_usages & _ceiling(rules, family)
        ekus = [oid for oid in template.ext_key_usage if oid in rules.ext_key_usage]
        if wanted_ekus is not None:
            ekus = [oid for oid in ekus if oid in wanted_ekus]
        return replace(
            template,
            key_usage=key_usage,
            ext_key_usage=tuple(ekus),
            extensions=(*template.extensions, *_copied(csr, rules, template)),
        )

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Judge what the CSR asks for, and what the final template would give."""
        csr, rules = enrolment.csr, enrolment.label.rules
        problem = (
            _extension_problem(csr, rules)
            or _key_usage_problem(_requested_key_usage(csr), template, _ceiling(rules, _family(csr)), rules)
            or _eku_problem(_requested_ekus(csr), template, rules)
        )
        return Deny(DenyKind.CSR, problem) if problem else Allow()

    async def advertise(self, label: Label) -> CsrAttributes:
        """The key usage, where it does not depend on the key, and the extended key usage that the label issues."""
        rules = label.rules
        wanted = []
        usages = {_issued_key_usages(rules, each.family) for each in rules.allowed_key_types}
        if len(usages) == 1 and (only := usages.pop()):
            wanted.append(_wanted(key_usage_extension(only), critical=True))
        if rules.ext_key_usage:
            wanted.append(_wanted(x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, rules.ext_key_usage))))
        return CsrAttributes(extensions=tuple(each for each in wanted if each.oid in rules.allowed_extensions))


def _wanted(value: x509.ExtensionType, *, critical: bool = False) -> WantedExtension:
    return WantedExtension(value.oid.dotted_string, value.public_bytes(), critical)


def _family(csr: Csr) -> str:
    key_type = key_type_of(csr.public_key)
    return key_type.family if key_type else ""


def _issued_key_usages(rules: EnrollmentRules, family: str) -> frozenset[str]:
    if rules.key_usage is None:
        return _ISSUED_BY_DEFAULT.get(family, _DIGITAL_SIGNATURE)
    return _possible(rules.key_usage, family)


def _ceiling(rules: EnrollmentRules, family: str) -> frozenset[str]:
    if rules.key_usage is None:
        return _CEILING_BY_DEFAULT.get(family, _DIGITAL_SIGNATURE)
    return _possible(rules.key_usage, family)


def _possible(usages: Iterable[str], family: str) -> frozenset[str]:
    """A label for several key types lists keyEncipherment for the sake of RSA: only RSA keys get it."""
    return frozenset(usages) & _POSSIBLE_KEY_USAGES.get(family, _DIGITAL_SIGNATURE)


def _requested_key_usage(csr: Csr) -> frozenset[str] | None:
    values = (extension.value for extension in csr.extensions)
    return next((key_usage_names(value) for value in values if isinstance(value, x509.KeyUsage)), None)


def _requested_ekus(csr: Csr) -> tuple[str, ...] | None:
    values = (extension.value for extension in csr.extensions)
    ekus = next((value for value in values if isinstance(value, x509.ExtendedKeyUsage)), None)
    return None if ekus is None else tuple(oid.dotted_string for oid in ekus)


def _copied(csr: Csr, rules: EnrollmentRules, template: Template) -> list[x509.Extension[x509.ExtensionType]]:
    """The CSR's listed extensions that have no field of their own and are not there yet."""
    there = {extension.oid for extension in template.extensions}
    not_copied = there | _IN_TEMPLATE_FIELDS | _MADE_BY_THE_CA | _HARMLESS
    return [
        extension
        for extension in csr.extensions
        if extension.oid.dotted_string in rules.allowed_extensions and extension.oid not in not_copied
    ]


def _extension_problem(csr: Csr, rules: EnrollmentRules) -> str | None:
    for extension in csr.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            # CA:FALSE is what every certificate here says anyway, and OpenSSL's sample configuration asks for it.
            if value.ca:
                return "the CSR asks for a CA certificate (basicConstraints CA:TRUE); remove that"
        elif extension.oid.dotted_string not in rules.allowed_extensions or extension.oid in _MADE_BY_THE_CA:
            allowed = ", ".join(map(_extension_name, rules.allowed_extensions)) or "none"
            return (
                f"the CSR asks for the extension {_described(extension)}, which this label does not take from a CSR; "
                f"remove it (allowed: {allowed})"
            )
    return None


def _key_usage_problem(
    requested: frozenset[str] | None, template: Template, ceiling: frozenset[str], rules: EnrollmentRules
) -> str | None:
    issued = ", ".join(sorted(ceiling)) or "none"
    if requested is not None and (beyond := requested - ceiling):
        return (
            f"the CSR asks for key usage {', '.join(sorted(beyond))}, which this label does not issue for such a key; "
            f"it issues {issued}"
        )
    if not template.key_usage:
        return f"the certificate would have no key usage (RFC 5280 4.2.1.3); for such a key this label issues {issued}"
    # A CA that decides by itself gives an EC key keyEncipherment, too, where the label has accepted that.
    if not rules.accept_ca_profile and (beyond := template.key_usage - ceiling):
        return f"the certificate would have key usage {', '.join(sorted(beyond))}; this label issues {issued}"
    return None


def _eku_problem(requested: tuple[str, ...] | None, template: Template, rules: EnrollmentRules) -> str | None:
    issued = ", ".join(map(_eku_name, rules.ext_key_usage)) or "none"
    if beyond := ", ".join(_eku_name(oid) for oid in requested or () if oid not in rules.ext_key_usage):
        return f"the CSR asks for extended key usage {beyond}, which this label does not issue; it issues {issued}"
    if beyond := ", ".join(_eku_name(oid) for oid in template.ext_key_usage if oid not in rules.ext_key_usage):
        return f"the certificate would have extended key usage {beyond}; this label issues {issued}"
    return None


def _eku_name(oid: str) -> str:
    return _EKU_NAMES.get(oid, oid)


def _extension_name(oid: str) -> str:
    return _EXTENSION_NAMES.get(oid, oid)


def _described(extension: x509.Extension[x509.ExtensionType]) -> str:
    oid = extension.oid.dotted_string
    return f"{_EXTENSION_NAMES[oid]} ({oid})" if oid in _EXTENSION_NAMES else oid


def _check_label(label: Label) -> None:
    rules = label.rules
    where = f"est.label {label.name!r}: " if label.name else "enrollment."
    for oid in rules.allowed_extensions:
        if x509.ObjectIdentifier(oid) in _MADE_BY_THE_CA:
            raise ConfigurationError(
                f"{where}allowed_extensions",
                f"{_extension_name(oid)} is made by the CA and never taken from a CSR; remove it",
            )
    if rules.require_san and ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string not in rules.allowed_extensions:
        raise ConfigurationError(
            f"{where}allowed_extensions", "require_san needs subjectAltName in it: no CSR could be accepted"
        )


@asynccontextmanager
async def _open(_settings: ExtensionsSettings, services: Services) -> AsyncIterator[ExtensionsPolicy]:
    for label in services.labels:
        _check_label(label)
    yield ExtensionsPolicy()


PROVIDER: Provider[Policy] = Provider(name="extensions", settings=ExtensionsSettings, open=_open)
