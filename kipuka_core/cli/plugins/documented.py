"""What ``kipuka plugins docs`` prints, made inside of a process for the plugin's code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kipuka_core.cli.plugins.installed import not_installed
from kipuka_core.cli.plugins.lines import lines_to_add
from kipuka_core.cli.plugins.subject import Output
from kipuka_core.config import Config, load
from kipuka_core.config.reference import plugin_section
from kipuka_core.errors import KipukaError
from kipuka_core.hooks.listing import own_table, table_of, words_for
from kipuka_core.hooks.manager import BUILTIN, PluginInfo, ProviderEntry, load_plugins


@dataclass(frozen=True, slots=True)
class _Described:
    """Something with settings: a provider, or with kind None a plugin itself, ``[plugin.NAME]``."""

    kind: str | None
    name: str
    plugin: PluginInfo
    path: str
    settings: type[BaseModel]
    entry: ProviderEntry | None = None


def document(request: Mapping[str, Any], output: Output) -> None:
    """Write the text about what the request names. Raises KipukaError."""
    output.write("step", "loading it")
    config = load(Path(request["config"]), os.environ) if request["config"] else None
    chosen = _chosen(request["name"], request["kind"], request["plugins"], config)
    for position, each in enumerate(chosen):
        output.write("text", ("\n" if position else "") + _text(each))


def _chosen(name: str, kind: str | None, plugins: Sequence[str], config: Config | None) -> list[_Described]:
    of_plugins = [each for plugin in plugins for each in _brought_by(plugin)]
    known = load_plugins(_beyond(config.plugins.enable if config else ()))
    providers = known.entries
    named = [_provider(entry) for entry in providers if entry.provider.name == name]
    everything = {(each.kind, each.name, each.plugin.name): each for each in (*of_plugins, *named)}
    found = [each for each in everything.values() if kind in {None, each.kind}]
    if not everything and not plugins:
        raise not_installed(name, tuple(entry.provider.name for entry in providers))
    if not found:
        raise KipukaError(f"{name!r} brings no {words_for(kind or 'provider')}, so it has no settings")
    brought_by = {each.plugin.name for each in found}
    if len(brought_by) > len(plugins or (None,)):
        ways = (
            f"{each.kind} {each.name!r} of {each.plugin}: --kind {each.kind}" for each in found if each.kind is not None
        )
        raise KipukaError(f"{name!r} is ambiguous: {'; '.join(ways)}")
    return found


def _brought_by(plugin: str) -> list[_Described]:
    loaded = load_plugins(_beyond((plugin,)))
    found = [_provider(entry) for entry in loaded.entries if entry.plugin.name == plugin]
    if plugin in loaded.settings:
        info = next(info for info in loaded.infos if info.name == plugin)
        found.append(_Described(None, plugin, info, own_table(plugin), loaded.settings[plugin]))
    return found


def _provider(entry: ProviderEntry) -> _Described:
    name = entry.provider.name
    return _Described(entry.kind, name, entry.plugin, table_of(entry.kind, name), entry.provider.settings, entry)


def _beyond(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name != BUILTIN)


def _text(each: _Described) -> str:
    plugin, own = each.plugin, each.settings if each.entry is None else None
    section = plugin_section(each.path, each.settings)
    lines = lines_to_add(None, plugin.name, [each.entry] if each.entry else [], own, all_keys=True)
    example = "\n".join(lines)
    kind = "plugin" if each.kind is None else words_for(each.kind)
    head = (
        f"# The {kind} `{each.name}`\n\nPlugin `{plugin.name}` of distribution {plugin.distribution} {plugin.version}."
    )
    return f"{head}\n\n{section}\n## Example\n\n```toml\n{example}\n```\n"
