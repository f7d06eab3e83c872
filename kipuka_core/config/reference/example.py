"""A complete example of ``kipuka.toml``, made from the models."""

from __future__ import annotations

import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kipuka_core.config.model import Config
from kipuka_core.config.reference.schema import model_schema
from kipuka_core.config.reference.walk import PluginModels, Table, default_json, is_available, plugin_table, tables
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


def example_of_plugin(path: str, settings: type[BaseModel], *, all_keys: bool = True) -> str:
    """The table of one plugin as somebody would write it, by its path as in ``PluginModels``.

    What is required is filled in, from the first example of the key where it has one; the rest is commented out, or
    left out without ``all_keys``. Empty where there is nothing to write.
    """
    table = plugin_table(path, settings)
    lines = []
    if table.chosen_by:
        word = table.chosen_by.partition(" = ")[2]
        lines = [*([f"id = {word}"] if "id" in table.core_keys else []), table.chosen_by]
    for name, field in table.keys.items():
        if field.is_required():
            lines += [*_about(field, all_keys), f"{name} = {_filled_in(table, name, field)}"]
        elif all_keys:
            default = default_json(table.model, name) if table.model else None
            shown = _filled_in(table, name, field) if default is None else toml_value(default)
            lines += [*_about(field, all_keys), f"# {name} = {shown}"]
    return "\n".join([table.header, *lines]) + "\n" if lines else ""


def _about(field: FieldInfo, all_keys: bool) -> list[str]:
    text = field.description or ""
    return [f"# {line}" for line in textwrap.wrap(text, 100, break_on_hyphens=False)] if all_keys else []


def _filled_in(table: Table, name: str, field: FieldInfo) -> str:
    if field.examples:
        return toml_value(field.examples[0])
    schema = model_schema(table.model) if table.model else {}
    return toml_value(_stand_in(schema["properties"][name], schema.get("$defs", {})))


def _stand_in(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """A value of the right type where a person has to think of one."""
    match schema:
        case {"$ref": reference}:
            return _stand_in(definitions[reference.rpartition("/")[2]], definitions)
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"anyOf": [first, *_]}:
            return "30s" if schema.get("x-kind") == "duration" else _stand_in(first, definitions)
        case {"type": "array"}:
            return [_stand_in(schema.get("items", {}), definitions)]
        case _:
            return {"integer": schema.get("minimum", 1), "number": 1, "boolean": False}.get(schema.get("type", ""), "…")


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
