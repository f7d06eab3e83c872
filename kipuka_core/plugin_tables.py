"""``[plugin.NAME]``: settings of a plugin that belong to none of its providers, for its commands and admin routes.

The plugin's module says with ``kipuka_settings`` which model they have.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from kipuka_core.config import Config, validate_table
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.manager import Plugins, nearest


def plugin_settings(config: Config, plugins: Plugins) -> Mapping[str, BaseModel]:
    """The settings of every enabled plugin that has some, by plugin name; checked, and paths made absolute.

    Raises ConfigurationError, also for a table that belongs to no enabled plugin.
    """
    for name in config.plugin:
        if name not in plugins.settings:
            raise ConfigurationError(f"plugin.{name}", _why_not(name, plugins))
    return {
        name: validate_table(model, config.plugin.get(name, {}), f"plugin.{name}", base_dir=config.base_dir)
        for name, model in plugins.settings.items()
    }


def _why_not(name: str, plugins: Plugins) -> str:
    infos = {info.name: info for info in plugins.infos}
    if name not in infos:
        return f"no installed plugin is called {name!r}{nearest(name, infos)}"
    if not infos[name].enabled:
        return f'the plugin is not enabled: add "{name}" to [plugins] enable'
    return "this plugin has no settings here; those of its providers are where the providers are named"
