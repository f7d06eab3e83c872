"""Policy ``names``: which names a certificate may hold, and how they are bound to who asks.

With ``subject_binding = "identity"`` a name (CN, e-mail address, UID or serialNumber of the subject; any SAN) must be
held by the client: its ``entity_id`` covers a name of any kind, as a device is known by it; the identity's other names
cover only their own kind, so that a certificate with ``dns:a.example`` does not make its holder ``cn:a.example``.

A one-time password may be bound to a pattern of its own: whoever made it has said with that which names it is for.
Every name has to match it, whatever the label's binding; with ``identity`` it takes the place of the names that the
client holds, with ``pattern`` the label's pattern has to match as well.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import Field

from kipuka_core import (
    Allow,
    ClientIdentity,
    ConfigurationError,
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
)
from kipuka_core.model.label import SubjectBinding
from kipuka_core.model.names import san_entry, san_kind, subject_names

SanKind = Literal["dns", "ip", "uri", "email", "dirname", "rid", "other"]

_SUBJECT_ALT_NAME = "2.5.29.17"
_ID_PLACE = "{id}"
_SHOWN_CHARACTERS = 100

_UPPER_BOUNDS: dict[x509.ObjectIdentifier, int] = {
    NameOID.COMMON_NAME: 64,
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.SERIAL_NUMBER: 64,
    NameOID.TITLE: 64,
    NameOID.LOCALITY_NAME: 128,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.EMAIL_ADDRESS: 255,
    NameOID.COUNTRY_NAME: 2,
}
"""RFC 5280 appendix A.1, in characters."""
_LONGEST_VALUE = 2048
"""For attributes and names that RFC 5280 gives no bound (UID, URI)."""

_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
    re.IGNORECASE | re.ASCII,
)
"""The preferred name syntax of RFC 1034 3.5 with RFC 1123 2.1, as RFC 5280 4.2.1.6 demands of a dNSName."""
_IPV4_LOOKALIKE = re.compile(r"[0-9.]+\.[0-9.]+")


class NamesSettings(Settings):
    """``[policy.names]``; the binding itself is in ``[enrollment]`` and the label."""

    san_kinds: tuple[SanKind, ...] = Field(
        default=("dns", "ip", "uri", "email"),
        description="Kinds of SubjectAltName entries that a certificate may hold; a CSR with another kind is refused.",
    )


class NamesPolicy(Policy):
    """Checks the form of every name, then that it belongs to the client."""

    def __init__(self, settings: NamesSettings) -> None:
        self._san_kinds = settings.san_kinds

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Judge the names of the final template: a bad name is a CSR refusal, another's name is a permission one."""
        rules = enrolment.label.rules
        problem = self._presence_problem(template, rules.require_san) or self._form_problem(
            template, wildcards=rules.subject_binding is SubjectBinding.ANY
        )
        if problem:
            return Deny(DenyKind.CSR, problem)
        return _binding_verdict(template, enrolment)

    async def advertise(self, label: Label) -> CsrAttributes:
        """Ask for a SubjectAltName where the label insists on one."""
        return CsrAttributes(oids=(_SUBJECT_ALT_NAME,) if label.rules.require_san else ())

    def _presence_problem(self, template: Template, require_san: bool) -> str | None:
        if not template.san and require_san:
            return "the CSR has no SubjectAltName, which this label requires; add one"
        if not template.san and not template.subject.rdns:
            return "the CSR names nobody; give it a subject or a SubjectAltName"
        return None

    def _form_problem(self, template: Template, *, wildcards: bool) -> str | None:
        for attribute in template.subject:
            if problem := _attribute_problem(attribute):
                return f"the subject's {attribute.rfc4514_attribute_name} {problem}"
        for name in template.san:
            kind = san_kind(name)
            if kind not in self._san_kinds:
                return f"SubjectAltName entries of kind {kind} are not accepted here; use {', '.join(self._san_kinds)}"
            if problem := _san_problem(name, wildcards=wildcards):
                return f"the SubjectAltName entry {_shown(san_entry(name))} {problem}"
        return None


def _attribute_problem(attribute: x509.NameAttribute[str | bytes]) -> str | None:
    value = attribute.value
    if not isinstance(value, str):
        return None
    longest = _UPPER_BOUNDS.get(attribute.oid, _LONGEST_VALUE)
    if len(value) > longest:
        return f"is longer than {longest} characters (RFC 5280 appendix A.1)"
    return _text_problem(value)


def _text_problem(value: str) -> str | None:
    if not value.strip():
        return "is empty"
    # Not printable: NUL and other control characters, line breaks, and the invisible ones that reorder or hide text.
    return None if value.isprintable() else "holds control or invisible characters"


def _san_problem(name: x509.GeneralName, *, wildcards: bool) -> str | None:
    if isinstance(name, x509.IPAddress):
        return None if isinstance(name.value, IPv4Address | IPv6Address) else "is a network and not an address"
    if isinstance(name, x509.DirectoryName):
        problems = map(_attribute_problem, name.value)
        return "is empty" if not name.value.rdns else next(filter(None, problems), None)
    if not isinstance(name, x509.DNSName | x509.UniformResourceIdentifier | x509.RFC822Name):
        return None
    if len(name.value) > _LONGEST_VALUE:
        return f"is longer than {_LONGEST_VALUE} characters"
    return _text_problem(name.value) or _syntax_problem(name, wildcards=wildcards)


def _syntax_problem(
    name: x509.DNSName | x509.UniformResourceIdentifier | x509.RFC822Name, *, wildcards: bool
) -> str | None:
    """RFC 5280 4.2.1.6."""
    if isinstance(name, x509.DNSName):
        return _dns_problem(name.value, wildcards=wildcards)
    if isinstance(name, x509.RFC822Name):
        local, at, host = name.value.rpartition("@")
        fine = at and local and not re.search(r"[\s@<>,;]", local) and _HOST.fullmatch(host)
        return None if fine else "is not an e-mail address like user@host.example"
    return None if _is_absolute_uri(name.value) else "is not an absolute URI like urn:dev:mac:0024befffe804ff1"


def _dns_problem(value: str, *, wildcards: bool) -> str | None:
    if value.startswith("*."):
        if not wildcards:
            return "is a wildcard, which this label does not issue"
        value = value.removeprefix("*.")
    if _IPV4_LOOKALIKE.fullmatch(value):
        return "is an address; ask for it as an IP address"
    return None if _HOST.fullmatch(value) else "is not a DNS name"


def _is_absolute_uri(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path) and " " not in value)


def _binding_verdict(template: Template, enrolment: Enrolment) -> Verdict:
    rules, identity = enrolment.label.rules, enrolment.identity
    own_pattern = identity.one_time.subject_pattern if identity.one_time else None
    if rules.subject_binding is SubjectBinding.ANY and own_pattern is None:
        return Allow()
    names = (*subject_names(template.subject), *map(san_entry, template.san))
    if not names:
        return Deny(DenyKind.CSR, "the CSR names nobody; put your name into the subject's CN or into a SubjectAltName")
    if own_pattern is not None and (other := _first_unlike(own_pattern, identity.entity_id, names)):
        return _refused(other, "it does not have the form that the one-time password was made for")
    if rules.subject_binding is SubjectBinding.PATTERN:
        # A label without a pattern lets nobody in: no name matches the empty one.
        if other := _first_unlike(rules.subject_pattern or "", identity.entity_id, names):
            return _refused(other, "it does not have the form that this label demands")
    elif own_pattern is None:
        held = frozenset(_comparable(name) for name in identity.names)
        if other := next((name for name in names if not _holds(identity, held, name)), None):
            return _refused(other, "ask only for names that you hold")
    return Allow()


def _first_unlike(pattern: str, entity_id: str, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if not _matches(pattern, entity_id, name)), None)


def _refused(name: str, advice: str) -> Deny:
    return Deny(DenyKind.PERMISSION, f"the name {_shown(name)} is not for this client; {advice}")


def _holds(identity: ClientIdentity, held: frozenset[str], name: str) -> bool:
    kind = name.partition(":")[0]
    return name in held or name == _comparable(f"{kind}:{identity.entity_id}")


def _comparable(name: str) -> str:
    # ASCII only: lower() turns some other letters into ASCII ones (the Kelvin sign into k).
    return name.lower() if name.startswith(("dns:", "ip:")) and name.isascii() else name


def _matches(pattern: str, entity_id: str, name: str) -> bool:
    kind, _, value = name.partition(":")
    return _compiled(pattern, entity_id, kind == "dns").fullmatch(value) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str, entity_id: str, without_case: bool) -> re.Pattern[str]:
    return re.compile(pattern.replace(_ID_PLACE, re.escape(entity_id)), re.IGNORECASE if without_case else 0)


def _shown(name: str) -> str:
    """A client's own text, fit for one line of an answer."""
    return ascii(name)[1:-1][:_SHOWN_CHARACTERS]


def _check_label(label: Label) -> None:
    rules = label.rules
    if rules.subject_binding is not SubjectBinding.PATTERN:
        return
    where = f"est.label {label.name!r}: subject_pattern" if label.name else "enrollment.subject_pattern"
    if not rules.subject_pattern:
        raise ConfigurationError(
            where, 'subject_binding = "pattern" needs a pattern, such as "{id}\\\\.devices\\\\.example"'
        )
    try:
        _compiled(rules.subject_pattern, "device", without_case=False)
    except re.error as error:
        raise ConfigurationError(where, f"is not a regular expression: {error}") from error


@asynccontextmanager
async def _open(settings: NamesSettings, services: Services) -> AsyncIterator[NamesPolicy]:
    for label in services.labels:
        _check_label(label)
    yield NamesPolicy(settings)


PROVIDER: Provider[Policy] = Provider(name="names", settings=NamesSettings, open=_open)
