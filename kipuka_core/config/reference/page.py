"""The reference page, Markdown."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from kipuka_core.config.reference.example import example_toml
from kipuka_core.config.reference.schema import model_schema
from kipuka_core.config.reference.walk import PluginModels, Table, default_json, is_available, plugin_table, tables
from kipuka_core.config.template import toml_value

_HEAD = """\
# Configuration: `kipuka.toml`

Generated from the models in `kipuka_core/config` and from the settings of the built-in plugins and
of those under `plugins/` by `make docs`; do not edit.

kipuka reads one file: the one named by `KIPUKA_CONFIG`, else `./kipuka.toml`, else `/etc/kipuka/kipuka.toml`. A file
that holds only this is a whole configuration:

```toml
[tls]
cert = "tls/server.pem"
key = "tls/server.key"

[tls.client_auth]
trust_anchors = "tls/device-cas.pem"
```

* An unknown key is an error, and so is a key whose feature is not available yet when it is set to anything but its
  default. All errors of a file are shown at once.
* Relative paths are relative to the file. `~` is not expanded.
* A **duration** is `"30s"`, `"15m"`, `"24h"`, `"90d"` or a number of seconds.
* An **address** is `"host:port"`; IPv6 in brackets: `"[::]:8443"`.
* A **key type** is read without case and punctuation: `rsa2048`, `rsa:2048`, `ecdsa256`, `ec:p256`, `secp256r1`,
  `prime256v1`, `ed25519`, `ed448`, `ml-dsa-65`. `rsa2048` means exactly 2048 bits.
* **L** marks what a label (`[[est.label]]`) can override.
* "-" means no default: an absent key is off, or an error where the text says that it is required.
* The core's own rules are no settings and cannot be switched off: nothing that makes a certification authority, a
  registration authority or a revocation responder is ever issued because a CSR asks for it, and no certificate
  outlives its issuer.
"""
_EXAMPLE = """\
## A complete example

Every key, at its default where it has one. A line that is commented out stands for a key or table that is absent.

```toml
{example}```
"""
_PLAIN_TYPES = {"boolean": "true or false", "integer": "number", "number": "number", "object": "table"}
_PLAIN_TYPES |= {"path": "path", "file-path": "path", "password": "secret"}


def render_page(plugin_settings: PluginModels | None = None) -> str:
    """The page, with the plugins' own settings where they belong."""
    known = plugin_settings or {}
    # [audit] has no keys of its own, only the tables below it
    shown = [table for table in tables(known) if table.keys or table.model is None or table.is_plugin]
    parts = [_HEAD, *map(render_table, shown)]
    return "\n".join([*parts, _EXAMPLE.format(example=example_toml(known))])


def plugin_section(path: str, settings: type[BaseModel]) -> str:
    """The section of one plugin's table, by its path as in ``PluginModels``."""
    return render_table(plugin_table(path, settings))


def render_table(table: Table) -> str:
    """A section: what the table is for, and its keys."""
    title = f"`{table.header}`" + (f" with `{table.chosen_by}`" if table.chosen_by else "")
    lines = [f"## {title}", "", table.intro, ""]
    if table.is_plugin and not table.keys:
        lines += [] if "has no settings" in table.intro else ["No settings.", ""]
    elif table.model is not None:
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        schema = model_schema(table.model)
        lines += [_row(table, name, schema) for name in table.keys]
        lines.append("")
    return "\n".join(lines)


def _row(table: Table, name: str, schema: dict[str, Any]) -> str:
    field = table.keys[name]
    mark = " **L**" if table.path == "enrollment" else ""
    meaning = field.description or ""
    if not is_available(field):
        meaning += " Not available yet."
    kind = _type_text(schema["properties"][name], schema.get("$defs", {}))
    cells = (f"`{name}`{mark}", kind, _default_text(table, name), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default_text(table: Table, name: str) -> str:
    if table.model is None or table.keys[name].is_required():
        return "required"
    default = default_json(table.model, name)
    return "-" if default is None else f"`{toml_value(default)}`"


def _type_text(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    match schema:
        case {"x-kind": kind}:
            return str(kind)
        case {"$ref": reference}:
            return _type_text(definitions[reference.rpartition("/")[2]], definitions)
        case {"enum": values}:
            return ", ".join(f"`{toml_value(value)}`" for value in values)
        case {"anyOf": options}:
            kinds = (_type_text(option, definitions) for option in options if option.get("type") != "null")
            return " or ".join(dict.fromkeys(kinds))
        case {"type": "array"}:
            return f"list of {_plural(_type_text(schema.get('items', {}), definitions))}"
        case _:
            plain = str(schema.get("format", schema.get("type")))
            return _PLAIN_TYPES.get(plain, "text" if schema.get("type") == "string" else "any")


def _plural(kind: str) -> str:
    if kind.startswith("`"):
        return kind  # the values themselves
    return {"hash": "hashes", "text": "text"}.get(kind, f"{kind}s")
