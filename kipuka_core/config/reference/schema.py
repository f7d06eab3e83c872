"""The JSON schema of ``kipuka.toml``, for editors."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from kipuka_core.config.model import Config
from kipuka_core.config.reference.walk import PluginModels, Table, default_json, tables

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TITLE = "kipuka.toml"


def render_schema(plugin_settings: PluginModels | None = None) -> str:
    """The schema as text, with the plugins' own settings where they belong."""
    return json.dumps(build_schema(plugin_settings or {}), indent=2, ensure_ascii=False) + "\n"


def build_schema(plugin_settings: PluginModels) -> dict[str, Any]:
    """The schema as a value."""
    schema = {"$schema": _DIALECT} | model_schema(Config) | {"title": _TITLE}
    for table in tables(plugin_settings):
        if table.is_plugin and table.model is not None:
            _add_plugin(schema, table, table.model)
    return schema


def model_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema whose defaults are written as a person writes them."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    _write_defaults(schema, model)
    for known in _all_models(model):
        if known.__name__ in definitions:
            _write_defaults(definitions[known.__name__], known)
    return schema


def _all_models(model: type[BaseModel]) -> set[type[BaseModel]]:
    # The root's tables are walked once, so that a plugin's models are found the same way.
    found = {model}
    for table in tables({}) if model is Config else ():
        found |= {table.model} if table.model else set()
    return found


def _write_defaults(schema: dict[str, Any], model: type[BaseModel]) -> None:
    for name in model.model_fields:
        shown = schema.get("properties", {}).get(name, {})
        if "default" in shown:
            shown["default"] = default_json(model, name)
            if shown["default"] is None:
                del shown["default"]  # TOML has no null: absent is absent


def _add_plugin(schema: dict[str, Any], table: Table, model: type[BaseModel]) -> None:
    own = model_schema(model)
    schema["$defs"] |= own.pop("$defs", {})
    if table.chosen_by:
        key, _, word = table.chosen_by.partition(" = ")
        holder = _definition(schema, table.path)
        is_chosen: dict[str, Any] = {"properties": {key: {"const": json.loads(word)}}}
        if holder["properties"][key].get("default") != json.loads(word):
            is_chosen["required"] = [key]
        then = {name: own[name] for name in ("properties", "required") if name in own}
        then["properties"] = {name: value for name, value in own["properties"].items() if name in table.keys}
        holder.setdefault("allOf", []).append({"if": is_chosen, "then": then})
        return
    parent, _, name = table.path.rpartition(".")
    holder = _definition(schema, parent)
    if parent in {"auth", "policy"}:
        own.setdefault("properties", {})["use"] = {"const": name, "description": "The provider."}
    holder.setdefault("properties", {})[name] = own


def _definition(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema of the table at a dotted path, through references and lists."""
    current = schema
    for part in path.split(".") if path else ():
        current = current["properties"][part]
        current = current.get("items", current)
        if "$ref" in current:
            current = schema["$defs"][current["$ref"].rpartition("/")[2]]
    return current
