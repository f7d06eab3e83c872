"""A complete example of ``kipuka.toml``, made from the models."""

from __future__ import annotations

import textwrap

from pydantic.fields import FieldInfo

from kipuka_core.config.model import Config
from kipuka_core.config.reference.walk import PluginModels, Table, default_json, is_available, tables
from kipuka_core.config.template import toml_value

_FILLED_IN = {
    "tls.cert",
    "tls.key",
    "tls.client_auth.trust_anchors",
    "admin.client_auth.trust_anchors",
    "est.label.name",
}
"""Keys without a default that a usual file has."""
_LEFT_OUT = {"ca", "ca_group", "admin.token", "auth.NAME", "policy.NAME"}
"""Tables that a usual file does without; they are shown commented out."""


def example_toml(plugin_settings: PluginModels | None = None) -> str:
    """The example as text. It loads."""
    return "\n".join(_table(table) for table in tables(plugin_settings or {}) if table.keys and table.chosen_by is None)


def _table(table: Table) -> str:
    live = table.path not in _LEFT_OUT and (not table.is_plugin or _in_default_order(table.path))
    prefix = "" if live else "# "
    lines = [f"{prefix}{table.header}"]
    for name, field in table.keys.items():
        about = field.description or ""
        if not is_available(field):
            about += " Not available yet."
        lines += [f"# {line}" for line in textwrap.wrap(about, 100, break_on_hyphens=False)]
        lines.append(prefix + _line(table, name, field).removeprefix(prefix))
    return "\n".join(lines) + "\n"


def _line(table: Table, name: str, field: FieldInfo) -> str:
    example = field.examples[0] if field.examples else None
    if f"{table.path}.{name}" in _FILLED_IN:
        return f"{name} = {toml_value(example)}"
    default = default_json(table.model, name) if table.model else None
    if default is not None and is_available(field):
        return f"{name} = {toml_value(default)}"
    shown = example if default is None or example is not None else default
    return f"# {name} = {toml_value('…' if shown is None else shown)}"


def _in_default_order(path: str) -> bool:
    section, _, name = path.partition(".")
    orders = {"auth": {name for entry in Config().auth.order for name in entry}, "policy": set(Config().policy.order)}
    return name in orders.get(section, set())
