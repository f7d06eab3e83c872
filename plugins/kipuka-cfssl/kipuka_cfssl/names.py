"""What CFSSL makes of names.

CFSSL takes the subject as a few fields and the SubjectAltName as a list of strings, and guesses their kinds. So it is
worked out beforehand what will come back, and what CFSSL would change on its way is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parseaddr
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kipuka_core import CaProfile, CsrRefused, Template

_LISTED = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
}
"""Attributes that a subject may have several of, by CFSSL's names, in the order of Go's ``pkix.Name``."""
_SINGLE = {NameOID.COMMON_NAME: "CN", NameOID.SERIAL_NUMBER: "SerialNumber"}
"""Those that follow, of which there is one."""
SUBJECT_ATTRIBUTES: tuple[str, ...] = tuple(oid.dotted_string for oid in (*_LISTED, *_SINGLE))
"""Dotted OIDs of all attributes that CFSSL keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CfsslProfile(CaProfile):
    """What CFSSL decides by itself; the order of the subject's attributes too."""

    def applied(self, template: Template) -> Template:
        """The certificate that CFSSL would make of a template."""
        # not super(): a dataclass with slots is another class than the one that super() means
        changed = CaProfile.applied(self, template)
        return replace(changed, subject=as_written(changed.subject))


def as_written(subject: x509.Name) -> x509.Name:
    """A subject as CFSSL writes it: in the order of Go's ``pkix.Name``, equal attributes together in one RDN."""
    rdns = []
    for oid in _LISTED:
        values = dict.fromkeys(each.value for each in subject.get_attributes_for_oid(oid))
        if values:
            rdns.append(x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for value in values]))
    for oid in _SINGLE:
        attributes = subject.get_attributes_for_oid(oid)
        if attributes:
            rdns.append(x509.RelativeDistinguishedName([x509.NameAttribute(oid, attributes[-1].value)]))
    return x509.Name(rdns)


def subject_fields(subject: x509.Name, csr_subject: x509.Name) -> Mapping[str, Any]:
    """The subject as CFSSL's request has it.

    Raises CsrRefused where CFSSL would issue another one: it fills what is not in the request from the CSR.
    """
    for oid in (*_LISTED, *_SINGLE):
        if csr_subject.get_attributes_for_oid(oid) and not subject.get_attributes_for_oid(oid):
            raise CsrRefused(
                f"the certification authority copies the CSR's {_name(oid)}, which is not to be issued: leave it out"
            )
    if as_written(subject) != subject:
        raise CsrRefused("the certification authority cannot write this subject; leave out unusual attributes")
    names = [{_LISTED[each.oid]: each.value} for each in subject if each.oid in _LISTED]
    single = {_SINGLE[each.oid]: each.value for each in subject if each.oid in _SINGLE}
    return {"CN": single.get("CN", ""), "names": names, "SerialNumber": single.get("SerialNumber", "")}


def hosts(san: Sequence[x509.GeneralName]) -> list[str]:
    """The SubjectAltName as CFSSL's ``hosts``. Raises CsrRefused for an entry that would come back as another."""
    return [_host(entry) for entry in san]


def _host(entry: x509.GeneralName) -> str:
    if isinstance(entry, x509.DNSName) and not _is_ip_address(entry.value) and not set(entry.value) & set("@:<> "):
        return entry.value
    if isinstance(entry, x509.RFC822Name) and parseaddr(entry.value) == ("", entry.value):
        return entry.value
    if isinstance(entry, x509.IPAddress) and _is_ip_address(str(entry.value)):  # no network with a mask
        return str(entry.value)
    raise CsrRefused(
        "the certification authority has DNS names, IP addresses and e-mail addresses as SubjectAltName only"
    )


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _name(oid: x509.ObjectIdentifier) -> str:
    return (_LISTED | _SINGLE)[oid]
