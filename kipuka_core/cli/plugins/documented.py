"""What ``kipuka plugins docs`` prints, made inside of a process for the plugin's code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kipuka_core.cli.plugins.installed import not_installed
from kipuka_core.cli.plugins.lines import lines_to_add
from kipuka_core.config import Config, load
from kipuka_core.config.reference import plugin_section
from kipuka_core.errors import KipukaError
from kipuka_core.hooks.listing import table_of, words_for
from kipuka_core.hooks.manager import BUILTIN, Plugins, ProviderEntry, load_plugins

KINDS = ("authenticator", "policy", "ca_backend", "key_store", "tls_material", "event_sink")


class Output(Protocol):
    """Where the text goes to."""

    def write(self, kind: str, value: Any) -> None:
        """Add a record."""
        ...


def document(request: Mapping[str, Any], output: Output) -> None:
    """Write the text about what the request names. Raises KipukaError."""
    output.write("step", "loading it")
    config = load(Path(request["config"]), os.environ) if request["config"] else None
    entries = _chosen(request["name"], request["kind"], request["plugins"], config)
    for position, entry in enumerate(entries):
        output.write("text", ("\n" if position else "") + _text(entry))


def _chosen(name: str, kind: str | None, plugins: Sequence[str], config: Config | None) -> list[ProviderEntry]:
    of_plugins = [entry for plugin in plugins for entry in _entries_of(plugin)]
    known = load_plugins(_beyond(config.plugins.enable if config else ()))
    providers = _entries(known)
    named = [entry for entry in providers if entry.provider.name == name]
    everything = {(each.kind, each.provider.name, each.plugin.name): each for each in (*of_plugins, *named)}
    found = [each for each in everything.values() if kind in {None, each.kind}]
    if not everything and not plugins:
        raise not_installed(name, tuple(entry.provider.name for entry in providers))
    if not found:
        raise KipukaError(f"{name!r} brings no {words_for(kind or 'provider')}, so it has no settings")
    brought_by = {each.plugin.name for each in found}
    if len(brought_by) > len(plugins or (None,)):
        ways = "; ".join(f"{each.kind} {each.provider.name!r} of {each.plugin}: --kind {each.kind}" for each in found)
        raise KipukaError(f"{name!r} is ambiguous: {ways}")
    return found


def _entries_of(plugin: str) -> list[ProviderEntry]:
    return [entry for entry in _entries(load_plugins(_beyond((plugin,)))) if entry.plugin.name == plugin]


def _beyond(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name != BUILTIN)


def _entries(plugins: Plugins) -> list[ProviderEntry]:
    return [entry for entries in plugins.providers.values() for entry in entries.values()]


def _text(entry: ProviderEntry) -> str:
    kind, name = words_for(entry.kind), entry.provider.name
    path = table_of(entry.kind, name)
    section = plugin_section(path, entry.provider.settings)
    example = "\n".join(lines_to_add(None, entry.plugin.name, [entry], all_keys=True))
    about = entry.plugin
    head = f"# The {kind} `{name}`\n\nPlugin `{about.name}` of distribution {about.distribution} {about.version}.\n\n"
    return f"{head}{section}\n## Example\n\n```toml\n{example}\n```\n"
