"""The settings of plugins, by the table of ``kipuka.toml`` that they belong to."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from kipuka_core.hooks.listing import table_of
from kipuka_core.hooks.manager import load_plugins

_DESCRIBED_BY_THE_CORE = {"tls"}
"""Of the provider ``files``, which has no table of its own."""
SISTER_PLUGINS = ("acme", "cfssl", "hsm", "vault")
"""Entry points of the distributions that are developed beside this one: the generated pages describe them too."""


def builtin_settings() -> dict[str, type[BaseModel]]:
    """What an installation without further plugins knows: ``{"auth.otp": OtpSettings, "ca[local]": …}``."""
    return _settings(())


def documented_settings() -> dict[str, type[BaseModel]]:
    """What the generated pages are rendered with. Raises ConfigurationError where a sister plugin is not installed."""
    return _settings(SISTER_PLUGINS)


def _settings(enable: Sequence[str]) -> dict[str, type[BaseModel]]:
    found = {
        table_of(entry.kind, entry.provider.name): entry.provider.settings for entry in load_plugins(enable).entries
    }
    return {path: model for path, model in found.items() if path not in _DESCRIBED_BY_THE_CORE}
