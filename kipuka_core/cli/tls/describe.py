"""Certificates and listeners as values that can be printed, or written as JSON."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kipuka_core.edges.tls.ciphers import suites_for_key
from kipuka_core.edges.tls.context import ServerTls, build_context
from kipuka_core.edges.tls.server_certificate import CMC_RA, extension_of, is_self_signed
from kipuka_core.model.cipher_suites import TLS12_SUITES, TLS13_SUITES
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.key_usage import KEY_USAGES, key_usage_names
from kipuka_core.model.names import san_entry

_IANA = {suite.openssl: suite.iana for suite in (*TLS12_SUITES, *TLS13_SUITES)}
_NO_NAME = "Unknown OID"


def certificate_facts(certificate: x509.Certificate, now: datetime) -> dict[str, Any]:
    """What a person asks of a certificate.

    Raises ValueError for extensions that cannot be read.
    """
    names = extension_of(certificate, x509.SubjectAlternativeName)
    usages = extension_of(certificate, x509.KeyUsage)
    purposes = extension_of(certificate, x509.ExtendedKeyUsage)
    set_bits = key_usage_names(usages) if usages else frozenset()
    return {
        **dates(certificate, now),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "key": key_type_of(certificate.public_key()) or describe_key(certificate.public_key()),
        "names": [san_entry(name) for name in names or ()],
        "key_usage": [name for name in KEY_USAGES if name in set_bits],
        "ext_key_usage": [{"name": purpose_name(oid), "oid": oid.dotted_string} for oid in purposes or ()],
        "sha256_fingerprint": certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    }


def dates(certificate: x509.Certificate, now: datetime) -> dict[str, Any]:
    """Subject and validity; ``days_left`` is negative for one that has ended."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "not_before": _iso(certificate.not_valid_before_utc),
        "not_after": _iso(certificate.not_valid_after_utc),
        "days_left": (certificate.not_valid_after_utc - now).days,
    }


def purpose_name(oid: x509.ObjectIdentifier) -> str:
    """What an extended key usage is called; empty for one without a name."""
    if oid == CMC_RA:
        return "id-kp-cmcRA"
    name = oid._name  # noqa: SLF001  # cryptography's names for OIDs are not public
    return "" if name == _NO_NAME else name


def offered_suites(tls: ServerTls, leaf: x509.Certificate) -> dict[str, list[str]]:
    """What a client can get of this listener, by version, in the server's order of preference.

    Raises ConfigurationError for certificate, key or suites that OpenSSL refuses.
    """
    names = [_IANA.get(suite["name"], suite["name"]) for suite in build_context(tls).get_ciphers()]
    offered = {"1.3": [name for name in names if "_WITH_" not in name]}
    if tls.min_version == "1.2":
        offered["1.2"] = suites_for_key(names, leaf.public_key())
    return offered


def anchor_facts(
    anchors: Collection[x509.Certificate], own: Collection[x509.Certificate], now: datetime
) -> list[dict[str, Any]]:
    """Trust anchors with their ends, and whether each is an own CA's."""
    return [{**dates(anchor, now), "own_ca": anchor in own} for anchor in anchors]


def chain_facts(chain: Collection[x509.Certificate], now: datetime) -> list[dict[str, Any]]:
    """What follows the server certificate in its file."""
    return [{**dates(each, now), "is_root": is_self_signed(each)} for each in chain]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
