"""The settings of plugins, by the table of ``kipuka.toml`` that they belong to."""

from __future__ import annotations

from collections.abc import Sequence

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
_SHORT_NAMES = {"key_store.pkcs11": "hsm"}
_DESCRIBED_BY_THE_CORE = {"tls.files"}
"""It reads ``[tls]`` itself."""
SISTER_PLUGINS = ("acme", "cfssl", "hsm", "vault")
"""Entry points of the distributions that are developed beside this one: the generated pages describe them too."""


def builtin_settings() -> dict[str, type[BaseModel]]:
    """What an installation without further plugins knows: ``{"auth.otp": OtpSettings, "ca[local]": …}``."""
    return _settings(())


def documented_settings() -> dict[str, type[BaseModel]]:
    """What the generated pages are rendered with. Raises ConfigurationError where a sister plugin is not installed."""
    return _settings(SISTER_PLUGINS)


def _settings(enable: Sequence[str]) -> dict[str, type[BaseModel]]:
    found = settings_tables(load_plugins(enable), _TABLES)
    return {_SHORT_NAMES.get(path, path): model for path, model in found.items() if path not in _DESCRIBED_BY_THE_CORE}
