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
    "tls_material": "tls.{}",
}
_DESCRIBED_BY_THE_CORE = {"tls.files"}
"""It reads ``[tls]`` itself."""


def builtin_settings() -> dict[str, type[BaseModel]]:
    """What the generated pages are rendered with: ``{"auth.otp": OtpSettings, "ca[local]": …}``."""
    found = settings_tables(load_plugins(()), _TABLES)
    return {path: model for path, model in found.items() if path not in _DESCRIBED_BY_THE_CORE}
