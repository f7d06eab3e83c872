"""Clients that need another form of answer: one table, each row with its name for the counter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kipuka_core.wire.base64_body import DEFAULT_COLUMNS

SINGLE_LINE_BASE64 = "single_line_base64"


@dataclass(frozen=True, slots=True)
class ClientTraits:
    """What is known of a client from its request; header names in lower case."""

    tls_version: str
    """``TLSv1.2`` or ``TLSv1.3``."""
    http_version: str
    """``1.1`` or ``2``."""
    headers_present: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Quirk:
    name: str
    matches: Callable[[ClientTraits], bool]
    columns: int | None


def _is_of_the_strongswan_kind(traits: ClientTraits) -> bool:
    """``pki --est`` before 5.9.11 reads no white space inside base64, and sends nothing that says who it is."""
    silent = traits.headers_present.isdisjoint(("user-agent", "accept", "accept-encoding"))
    return traits.tls_version == "TLSv1.2" and traits.http_version == "1.1" and silent


_QUIRKS = (_Quirk(SINGLE_LINE_BASE64, _is_of_the_strongswan_kind, columns=None),)


def quirk_of(traits: ClientTraits) -> str | None:
    """The name of the quirk that this client is answered with, None for none."""
    quirk = _find(traits)
    return quirk.name if quirk else None


def response_columns(traits: ClientTraits) -> int | None:
    """The ``columns`` of :func:`~kipuka_core.wire.base64_body.encode_body` for this client; None: one single line."""
    quirk = _find(traits)
    return quirk.columns if quirk else DEFAULT_COLUMNS


def _find(traits: ClientTraits) -> _Quirk | None:
    return next((quirk for quirk in _QUIRKS if quirk.matches(traits)), None)
