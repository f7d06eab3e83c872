"""What will be signed, what may be signed, and what was signed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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


class MaySet(StrEnum):
    """What a CA backend may decide by itself instead of following the template."""

    VALIDITY = "validity"
    KEY_USAGE = "key_usage"
    SUBJECT_SUBSET = "subject_subset"
    EXTENSIONS = "extensions"


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
