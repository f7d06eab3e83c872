"""The kinds of plugins that there are templates for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; ``word`` is what ``--kind`` takes and the directory of its templates."""

    word: str
    called: str
    """With its article, for sentences."""
    summary: str
    """Of the plugin that is made, for ``pyproject.toml``."""
    provides: str | None
    """The kind of its provider, as :mod:`kipuka_core.hooks.manager` calls it; None: it brings none."""
    table: str | None = None
    """The table of ``kipuka.toml`` in which ``[TABLE.NAME]`` has its settings, among keys of the core's."""


KINDS = {
    kind.word: kind
    for kind in (
        Kind("auth", "an authenticator", "devices enrol with tokens from a file", "authenticator", "auth"),
        Kind("policy", "a policy", "only devices with certain names enrol, and not for long", "policy", "policy"),
        Kind("ca", "a CA backend", "certificates from a CA of our own", "ca_backend"),
        Kind("keys", "a key store", "CA keys in a place of our own", "key_store"),
        Kind("tls", "TLS material", "the server's certificate from a place of our own", "tls_material", "tls"),
        Kind("events", "an event sink", "audit events go to a place of our own", "event_sink"),
        Kind("command", "a command and an admin route", "shows what certificate requests ask for", None),
    )
}
"""By the word of ``--kind``."""
