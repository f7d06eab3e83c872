"""The names that an order is for: those of the approved template, and the CSR has to ask for the same."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.x509.oid import NameOID

from kipuka_acme.shapes import Identifier
from kipuka_core import Csr, CsrRefused, Template


def identifiers_of(template: Template, csr: Csr) -> tuple[Identifier, ...]:
    """The template's DNS names and IP addresses (RFC 8555 9.7.7, RFC 8738), each once.

    Raises CsrRefused, before anything is ordered, for what an ACME CA would not certify: it takes the CSR of the device
    as it is, and the names in it have to be those of the order (RFC 8555 7.4).
    """
    wanted = _names("the certificate", template.san)
    if not wanted:
        raise CsrRefused("an ACME CA certifies DNS names and IP addresses; ask for one in the SubjectAltName")
    asked = _names("the CSR", csr.san or ())
    if set(asked) != set(wanted):
        raise CsrRefused(
            "an ACME CA takes the names from the CSR, and this one asks for others than were approved:"
            f" {_listed(asked)} instead of {_listed(wanted)}"
        )
    for subject in (template.subject, csr.subject):
        _check_subject(subject, {value for _, value in wanted})
    return tuple(Identifier(type=kind, value=value) for kind, value in wanted)


def _names(whose: str, san: Iterable[x509.GeneralName]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for name in san:
        if isinstance(name, x509.DNSName):
            found["dns", name.value.lower()] = None
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, IPv4Address | IPv6Address):
            found["ip", str(name.value)] = None
        else:
            raise CsrRefused(
                f"an ACME CA certifies DNS names and IP addresses only, and the SubjectAltName of {whose} has a"
                f" {type(name).__name__}"
            )
    return list(found)


def _check_subject(subject: x509.Name, values: set[str]) -> None:
    for oid, what in ((NameOID.COMMON_NAME, "commonName"), (NameOID.EMAIL_ADDRESS, "emailAddress")):
        for attribute in subject.get_attributes_for_oid(oid):
            text = str(attribute.value)
            if text.lower() not in values:
                shown = text if text.isprintable() else ascii(text)
                raise CsrRefused(
                    f"the subject's {what} {shown!r} is not among the DNS names and IP addresses of the"
                    " SubjectAltName; an ACME CA certifies no other name"
                )


def _listed(names: Iterable[tuple[str, str]]) -> str:
    return ", ".join(sorted(value for _, value in names)) or "none"
