"""``/admin/plugins``: what is installed, what is enabled, what the configuration uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from quart import Blueprint
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http.admin_health import HealthChecks
from kipuka_core.hooks.listing import NO_PROVIDER, listing
from kipuka_core.hooks.manager import Plugins

Use = tuple[str, str]
"""A provider by kind and name, such as ``("ca_backend", "local")``."""


@dataclass(frozen=True, slots=True)
class PluginDirectory:
    """One entry for each name and kind that can stand in ``kipuka.toml``, as ``kipuka plugins list`` shows them.

    ``name`` is the word after ``use =``; ``kind`` the port that it fills, null for a plugin that is not enabled.
    ``status``: ``active`` (the configuration uses it), ``failing`` (one of those that it made does not work now),
    ``idle`` (enabled, and nothing in the configuration names it), ``disabled``.
    """

    plugins: Plugins
    used: Mapping[Use, Collection[str]]
    """What the configuration uses, and the parts of :class:`HealthChecks` that came of it, if any."""
    checks: HealthChecks

    async def entries(self) -> list[dict[str, Any]]:
        """Every entry."""
        failing = set(await self.checks.problems())
        return [
            {
                "name": each.name,
                "distribution": each.plugin.distribution,
                "version": each.plugin.version,
                "kind": each.kind,
                "enabled": each.plugin.enabled,
                "status": self._status(each.name, each.kind, failing),
            }
            for each in listing(self.plugins)
        ]

    def _status(self, name: str, kind: str | None, failing: set[str]) -> str:
        if kind is None:
            return "disabled"
        if kind == NO_PROVIDER:
            return "active"
        parts = self.used.get((kind, name))
        if parts is None:
            return "idle"
        return "active" if failing.isdisjoint(parts) else "failing"


def plugin_routes(directory: PluginDirectory) -> Blueprint:
    """The page."""
    routes = Blueprint("kipuka_plugins", __name__)

    @routes.get("/admin/plugins")
    async def entries() -> ResponseReturnValue:
        return await directory.entries()

    return routes
