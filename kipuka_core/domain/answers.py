"""What the core relies on in the answers of plugins beyond their type: Python lets any value stand in any field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import singledispatch
from os import PathLike
from types import NoneType
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1

from kipuka_core.domain.ports import ServerIdentity
from kipuka_core.model.certificate import CaChain, CsrAttributes, Issued, Template
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.identity import ClientIdentity, OneTimeCredential
from kipuka_core.model.key_usage import KEY_USAGES
from kipuka_core.model.verdict import Deny, DenyKind, Wait

_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
_KNOWN_USAGES = frozenset(KEY_USAGES)


def answer_problem(answer: object) -> str | None:
    """Say what is wrong with an answer and how it has to be, as a clause that begins with "whose"; None: nothing."""
    return next(_problems(answer), None)


@singledispatch
def _problems(_answer: object) -> Iterator[str]:
    return iter(())


@_problems.register(ClientIdentity)
def _identity(answer: Any) -> Iterator[str]:
    if not isinstance(answer.entity_id, str):
        yield f"whose entity_id is {_kind(answer.entity_id)}; give the name of the device, a str"
    elif problem := entity_id_problem(answer.entity_id):
        yield f"whose entity_id cannot be one: {problem}; give the name of the device, or answer None"
    if not isinstance(answer.authenticator, str) or not answer.authenticator:
        yield "whose authenticator is not named; give the provider's name, a str"
    if not isinstance(answer.names, frozenset) or not all(map(_is_name, answer.names)):
        yield 'whose names are no frozenset of "kind:value", such as frozenset({"dns:pump-7.example"})'
    if not isinstance(answer.certificate, x509.Certificate | NoneType):
        yield f"whose certificate is {_kind(answer.certificate)}; give offer.connection.client_certificate or None"
    if not isinstance(answer.one_time, OneTimeCredential | NoneType):
        yield f"whose one_time is {_kind(answer.one_time)}; give a OneTimeCredential or None"


@_problems.register(Template)
def _template(answer: Any) -> Iterator[str]:
    if not isinstance(answer.subject, x509.Name):
        yield f"whose subject is {_kind(answer.subject)}; give an x509.Name"
    if not isinstance(answer.spki_der, bytes):
        yield f"whose spki_der is {_kind(answer.spki_der)}; leave it as it is, the key is the client's"
    if not _all_of(answer.san, x509.GeneralName):
        yield "whose san is no tuple of x509.GeneralName"
    if not isinstance(answer.key_usage, frozenset) or not answer.key_usage <= _KNOWN_USAGES:
        yield f"whose key_usage is no frozenset of these: {', '.join(KEY_USAGES)}"
    if not isinstance(answer.ext_key_usage, tuple) or not all(map(_is_oid, answer.ext_key_usage)):
        yield 'whose ext_key_usage is no tuple of dotted OIDs such as "1.3.6.1.5.5.7.3.2"'
    for field in ("not_before", "not_after"):
        moment = getattr(answer, field)
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            yield f"whose {field} is {_kind(moment)} and not a datetime with a time zone; give UTC"
    if not _all_of(answer.extensions, x509.Extension):
        yield "whose extensions are no tuple of x509.Extension"


@_problems.register(Deny)
def _deny(answer: Any) -> Iterator[str]:
    if not isinstance(answer.kind, DenyKind):
        yield f"whose kind is {_kind(answer.kind)}; give DenyKind.CSR or DenyKind.PERMISSION"
    yield from _reason(answer.reason)


@_problems.register(Wait)
def _wait(answer: Any) -> Iterator[str]:
    seconds = answer.retry_after_seconds
    if seconds is not None and (not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 0):
        yield "whose retry_after_seconds is neither None nor a whole number of seconds, 0 or more"
    if not isinstance(answer.reference, str):
        yield f"whose reference is {_kind(answer.reference)}; give a str"
    yield from _reason(answer.reason)


@_problems.register(Issued)
def _issued(answer: Any) -> Iterator[str]:
    if not isinstance(answer.certificate, x509.Certificate):
        yield f"whose certificate is {_kind(answer.certificate)}; give an x509.Certificate"


@_problems.register(CaChain)
def _chain(answer: Any) -> Iterator[str]:
    for field in ("certificates", "previous"):
        if not _all_of(getattr(answer, field), x509.Certificate):
            yield f"whose {field} are no tuple of x509.Certificate"
    if not answer.certificates:
        yield "whose certificates are empty; give those from the issuing one up to the root"


@_problems.register(CsrAttributes)
def _attributes(answer: Any) -> Iterator[str]:
    try:
        oids = [*answer.oids, *(each.oid for each in answer.attributes), *(each.oid for each in answer.extensions)]
        values = [value for attribute in answer.attributes for value in attribute.values_der]
        values += [extension.value_der for extension in answer.extensions]
    except (TypeError, AttributeError):
        yield "whose fields are no tuples of OIDs, AttributeHint and WantedExtension"
        return
    for oid in oids:
        if not _is_oid(oid):
            yield f'whose OID {ascii(oid)[:80]} is none; give dotted OIDs such as "2.5.29.17"'
    if not all(map(_is_der, values)):
        yield "in which a value is no complete DER value (RFC 7030 4.5.2)"


@_problems.register(ServerIdentity)
def _server(answer: Any) -> Iterator[str]:
    for field in ("certificate_file", "key_file"):
        path = getattr(answer, field)
        if not isinstance(path, str | PathLike) or not str(path):
            yield f"whose {field} is {_kind(path)}; give the path of a PEM file"
    if not isinstance(answer.key_password, bytes | NoneType):
        yield f"whose key_password is {_kind(answer.key_password)}; give bytes or None"


def _reason(reason: object) -> Iterator[str]:
    if not isinstance(reason, str):
        yield f"whose reason is {_kind(reason)}; give a sentence for the client, a str"


def _all_of(values: object, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(each, kind) for each in values)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.find(":") > 0


def _is_oid(oid: object) -> bool:
    return isinstance(oid, str) and _OID.fullmatch(oid) is not None


def _is_der(value: Any) -> bool:
    try:
        asn1.decode_der(asn1.TLV, value)
    except (ValueError, TypeError):
        return False
    return True


def _kind(value: object) -> str:
    return "None" if value is None else repr(value) if value == "" else f"a {type(value).__name__}"
