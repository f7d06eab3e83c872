"""``/admin/plugins``: what is installed, what is enabled, what the configuration uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from quart import Blueprint
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http.admin_health import HealthChecks
from kipuka_core.hooks.listing import Listed, listing
from kipuka_core.hooks.manager import Plugins

Use = tuple[str, str]
"""A provider by kind and name, such as ``("ca_backend", "local")``."""


@dataclass(frozen=True, slots=True)
class PluginDirectory:
    """One entry for each name and kind that can stand in ``kipuka.toml``, as ``kipuka plugins list`` shows them.

    ``name`` is the word after ``use =``; ``kind`` the port that it fills, null for a plugin that is not enabled.
    ``table`` is where its settings are, ``settings`` are the keys there, without their values.
    ``status``: ``active`` (the configuration uses it), ``failing`` (one of those that it made does not work now),
    ``idle`` (enabled, and nothing in the configuration names it), ``disabled``. ``problem`` says why one is failing.
    """

    plugins: Plugins
    used: Mapping[Use, Collection[str]]
    """What the configuration uses, and the parts of :class:`HealthChecks` that came of it, if any."""
    checks: HealthChecks

    async def entries(self) -> list[dict[str, Any]]:
        """Every entry."""
        failing = {name: part.detail for name, part in (await self.checks.parts()).items() if not part.is_healthy}
        return [self._entry(each, failing) for each in listing(self.plugins)]

    def _entry(self, each: Listed, failing: Mapping[str, str]) -> dict[str, Any]:
        parts = self.used.get((each.kind or "", each.name))
        problems = [f"{part}: {failing[part]}" for part in parts or () if part in failing]
        return {
            "name": each.name,
            "distribution": each.plugin.distribution,
            "version": each.plugin.version,
            "api_version": each.api_version,
            "kind": each.kind,
            "enabled": each.plugin.enabled,
            "status": each.status(is_used=parts is not None, is_failing=bool(problems)),
            "table": each.table,
            "settings": list(each.settings),
            "problem": "; ".join(problems) or each.problem,
        }


def plugin_routes(directory: PluginDirectory) -> Blueprint:
    """The page."""
    routes = Blueprint("kipuka_plugins", __name__)

    @routes.get("/admin/plugins")
    async def entries() -> ResponseReturnValue:
        return await directory.entries()

    return routes
