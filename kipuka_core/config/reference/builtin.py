"""The settings of the built-in plugins, by the table of ``kipuka.toml`` that they belong to."""

from __future__ import annotations

from pydantic import BaseModel

from kipuka_core.hooks.manager import load_plugins, settings_tables

_TABLES = {
    "authenticator": "auth.{}",
    "policy": "policy.{}",
    "ca_backend": "ca[{}]",
    "key_store": "key_store.{}",
    "event_sink": "audit.sink[{}]",
}
"""A TLS material provider has no table of its own: it reads ``[tls]``, which the core describes."""


def builtin_settings() -> dict[str, type[BaseModel]]:
    """What the generated pages are rendered with: ``{"auth.otp": OtpSettings, "ca[local]": …}``."""
    return settings_tables(load_plugins(()), _TABLES)
