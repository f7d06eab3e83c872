"""What will be signed, what may be signed, and what was signed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from kipuka_core.model.enrolment import Enrolment


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The certificate that would be issued. Policies shape it by returning another one (``dataclasses.replace``)."""

    subject: x509.Name
    spki_der: bytes
    san: tuple[x509.GeneralName, ...] = ()
    key_usage: frozenset[str] = frozenset()
    """RFC 5280 names: ``digitalSignature``, ``keyEncipherment``, …"""
    ext_key_usage: tuple[str, ...] = ()
    """Dotted OIDs."""
    not_before: datetime
    not_after: datetime
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    """Further extensions, copied from the CSR by policy or added by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """A template that every policy allowed, and nothing changes it afterwards.

    Only ``domain.judge`` makes one, and ``domain.server_certificate`` for the server's own certificate.
    """

    template: Template
    enrolment: Enrolment
    issuer: x509.Certificate
    """The certificate of the CA that is to sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaProfile:
    """What a CA decides by itself, as its backend declares it; None or empty: it follows the template.

    The template is changed accordingly before any policy judges it, so that what is approved is what will come back.
    """

    validity: timedelta | None = None
    """Certificates are valid for at most so long, beginning when the CA likes."""
    key_usage: frozenset[str] | None = None
    """RFC 5280 names; every certificate has these."""
    ext_key_usage: tuple[str, ...] | None = None
    """Dotted OIDs; every certificate has these."""
    subject_attributes: tuple[str, ...] | None = None
    """Dotted OIDs of the subject's attributes that the CA keeps; it leaves the others out."""
    extensions: tuple[str, ...] = ()
    """Dotted OIDs of further extensions that the CA adds, with values of its own."""

    @property
    def decides(self) -> tuple[str, ...]:
        """What is declared, in words for messages; empty where the CA follows the template in everything."""
        said = {
            "the validity": self.validity,
            "the key usage": self.key_usage,
            "the extended key usage": self.ext_key_usage,
            "which attributes of the subject stay": self.subject_attributes,
            f"the extensions {', '.join(self.extensions)}": self.extensions or None,
        }
        return tuple(what for what, value in said.items() if value is not None)

    def applied(self, template: Template) -> Template:
        """The certificate that this CA would make of a template. The added extensions are not in it."""
        changes: dict[str, Any] = {}
        if self.validity is not None:
            changes["not_after"] = template.not_before + self.validity
        if self.key_usage is not None:
            changes["key_usage"] = self.key_usage
        if self.ext_key_usage is not None:
            changes["ext_key_usage"] = self.ext_key_usage
        if self.subject_attributes is not None:
            kept = [each for each in template.subject if each.oid.dotted_string in self.subject_attributes]
            changes["subject"] = x509.Name(kept)
        return replace(template, **changes)


@dataclass(frozen=True, slots=True)
class Issued:
    """What a CA backend returns: one end-entity certificate."""

    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class CaChain:
    """The certificates of a CA: ``certificates`` from the issuing one up to and including the root."""

    certificates: tuple[x509.Certificate, ...]
    previous: tuple[x509.Certificate, ...] = ()
    """Issuers (and roll-over certificates: OldWithOld, OldWithNew, NewWithOld) of earlier generations."""

    @property
    def issuing(self) -> x509.Certificate:
        """The certificate whose key signs."""
        return self.certificates[0]


@dataclass(frozen=True, slots=True)
class WantedExtension:
    """An extension that a CSR should ask for, with its value."""

    oid: str
    value_der: bytes
    critical: bool = False


@dataclass(frozen=True, slots=True)
class AttributeHint:
    """An attribute of a CSR attributes response: a type and DER values (RFC 7030 4.5.2, RFC 8951 4)."""

    oid: str
    values_der: tuple[bytes, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class CsrAttributes:
    """What policies want to see in a CSR; the parts of several policies are joined with :meth:`merged`."""

    oids: tuple[str, ...] = ()
    attributes: tuple[AttributeHint, ...] = ()
    extensions: tuple[WantedExtension, ...] = ()

    def merged(self, other: CsrAttributes) -> CsrAttributes:
        """Both together, in order, without repetitions."""
        return CsrAttributes(
            oids=tuple(dict.fromkeys((*self.oids, *other.oids))),
            attributes=tuple(dict.fromkeys((*self.attributes, *other.attributes))),
            extensions=tuple(dict.fromkeys((*self.extensions, *other.extensions))),
        )
