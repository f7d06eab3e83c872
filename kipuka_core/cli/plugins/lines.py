"""What to write into ``kipuka.toml`` for a plugin to be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from kipuka_core.config import Config
from kipuka_core.config.reference import example_of_plugin
from kipuka_core.config.template import toml_value
from kipuka_core.hooks.listing import own_table, table_of
from kipuka_core.hooks.manager import BUILTIN, ProviderEntry


def lines_to_add(
    config: Config | None,
    plugin: str,
    entries: Sequence[ProviderEntry],
    own: type[BaseModel] | None = None,
    *,
    all_keys: bool = False,
) -> list[str]:
    """The tables that enable ``plugin`` and have these providers of it used; empty: nothing is missing.

    ``own`` is the model of ``[plugin.NAME]``, where that is missing.
    ``config`` is what there is already; an order is given as a whole, with what is in it. ``all_keys``: the settings
    come with every key, commented out where it need not be there.
    """
    there = config or Config()
    blocks = []
    if plugin not in {BUILTIN, *there.plugins.enable}:
        blocks.append(f"[plugins]\nenable = {toml_value([*there.plugins.enable, plugin])}")
    # A file cannot have the same table twice, so each order is written once.
    for kind, section, order in _orders(there):
        names = [entry.provider.name for entry in entries if entry.kind == kind and entry.provider.name not in order]
        if names:
            blocks.append(f"[{section}]\norder = {toml_value([*order, *names])}")
    blocks += [block for entry in entries if (block := _settings(entry, all_keys))]
    if own is not None and (example := example_of_plugin(own_table(plugin), own, all_keys=all_keys)):
        blocks.append(example.rstrip("\n"))
    return "\n\n".join(blocks).splitlines()


def _orders(config: Config) -> Iterator[tuple[str, str, list[object]]]:
    in_auth: list[object] = [names[0] if len(names) == 1 else list(names) for names in config.auth.order]
    yield "authenticator", "auth", in_auth
    yield "policy", "policy", list(config.policy.order)


def _settings(entry: ProviderEntry, all_keys: bool) -> str:
    name = entry.provider.name
    path = table_of(entry.kind, name)
    example = example_of_plugin(path, entry.provider.settings, all_keys=all_keys).rstrip("\n")
    if entry.kind == "key_store" and not example:  # the table itself is what opens the store
        return f"[{path}]"
    if entry.kind == "tls_material" and path != "tls":
        return f"[tls]\nmaterial = {toml_value(name)}" + (f"\n\n{example}" if example else "")
    return example
