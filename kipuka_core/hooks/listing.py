"""What is installed and enabled, for ``kipuka plugins list`` and the admin API."""

from __future__ import annotations

from dataclasses import dataclass

from kipuka_core.hooks.manager import PluginInfo, Plugins

NO_PROVIDER = "extension"
"""The kind of an enabled plugin that brings commands or admin routes only."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A way to fill a port: a provider's name and the port's kind, and who brought it.

    A plugin that is not enabled is not asked what it brings: it is listed under its own name, with kind None.
    """

    name: str
    kind: str | None
    plugin: PluginInfo


def listing(plugins: Plugins) -> list[Listed]:
    """Every provider of the enabled plugins by kind, enabled plugins without any, then those not enabled."""
    listed = [
        Listed(name, kind, entry.plugin)
        for kind, entries in plugins.providers.items()
        for name, entry in entries.items()
    ]
    with_provider = {each.plugin for each in listed}
    silent = [info for info in plugins.infos if info.enabled and info not in with_provider]
    listed += [Listed(info.name, NO_PROVIDER, info) for info in silent]
    listed += [Listed(info.name, None, info) for info in plugins.infos if not info.enabled]
    return listed
