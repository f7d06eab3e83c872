"""What a configuration says about a plugin, without opening anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr

from kipuka_core.config import Config, PluginTable, used_tables
from kipuka_core.hooks.manager import BUILTIN

_NAMES_A_SECRET = re.compile(
    r"(password|passphrase|secret|token|pin|api_?key|private_?key)s?(_env)?$|key_env$",
)
_SHORTEST_SECRET = 4
"""What is shorter would be found in every other word."""


def with_plugin(config: Config, plugin: str) -> Config:
    """The same configuration, with a plugin enabled."""
    if plugin in {BUILTIN, *config.plugins.enable}:
        return config
    table = config.plugins.model_copy(update={"enable": (*config.plugins.enable, plugin)})
    return config.model_copy(update={"plugins": table})


def places_of(config: Config | None, kind: str | None, name: str) -> list[str]:
    """Where a configuration uses a provider: TOML paths."""
    used = used_tables(config) if config else ()
    return [table.toml_path for of_kind, table in used if (of_kind, table.use) == (kind, name)]


def tables_for(config: Config | None, kind: str, provider: str) -> list[PluginTable]:
    """What a configuration says to a provider: in tables that it uses, or could."""
    if config is None:
        return []
    found = [table for of_kind, table in used_tables(config) if (of_kind, table.use) == (kind, provider)]
    known = {table.toml_path for table in found}
    idle = {"authenticator": ("auth", config.auth.tables), "policy": ("policy", config.policy.tables)}
    section, tables = idle.get(kind, ("", {}))
    for name, table in tables.items():
        path = f"{section}.{name}"
        if (table.use or name) == provider and path not in known:
            found.append(PluginTable(name=name, use=provider, settings=table.settings, toml_path=path))
    return found


def secrets_in(model: type[BaseModel], settings: Mapping[str, Any]) -> Iterator[str]:
    """What stands in a table, or in an environment variable that it names, and looks as if it were a secret."""
    for key, value in settings.items():
        field = getattr(model, "model_fields", {}).get(key)
        is_secret = field is not None and {SecretStr, SecretBytes} & {field.annotation, *get_args(field.annotation)}
        if isinstance(value, str) and (is_secret or _NAMES_A_SECRET.search(key)):
            secret = os.environ.get(value, "") if key.endswith("_env") else value
            if len(secret) >= _SHORTEST_SECRET:
                yield secret
