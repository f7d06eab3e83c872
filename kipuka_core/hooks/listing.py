"""What is installed and enabled, for ``kipuka plugins list`` and the admin API."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import reduce
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.hooks.manager import GROUP, PluginInfo, Plugins, ProviderEntry, load_plugins

NO_PROVIDER = "extension"
"""The kind of an enabled plugin that brings commands or admin routes only, or that has settings of its own for them."""
NOT_INSTALLED = "(not installed)"
"""The distribution of a plugin that ``[plugins] enable`` names and nothing brings."""
_TABLES = {
    "authenticator": "auth.{}",
    "policy": "policy.{}",
    "ca_backend": "ca[{}]",
    "key_store": "key_store.{}",
    "event_sink": "audit.sink[{}]",
    "tls_material": "tls.{}",
}
_TABLES_OF_THEIR_OWN = {("key_store", "pkcs11"): "hsm", ("tls_material", "files"): "tls"}
_CHOOSING = {"ca_backend": '[[ca]] backend = "{}"', "event_sink": '[[audit.sink]] use = "{}"'}
_KEYS_OF_THE_CORE = {"ca_backend": frozenset({"id"})}
"""Keys of a settings model that the core fills in itself from its own part of the table."""


def words_for(kind: str) -> str:
    """A kind as a person writes it: ``CA backend``."""
    return {"ca_backend": "CA backend", "tls_material": "TLS material"}.get(kind, kind.replace("_", " "))


def table_of(kind: str, name: str) -> str:
    """Where a provider's settings are, as the reference page has it: ``policy.NAME``; ``ca[NAME]`` for a part of it."""
    return _TABLES_OF_THEIR_OWN.get((kind, name)) or _TABLES[kind].format(name)


def header_of(kind: str, name: str) -> str:
    """The same for people: ``[policy.NAME]``; ``[[ca]] backend = "NAME"``."""
    choosing = _CHOOSING.get(kind)
    return choosing.format(name) if choosing else f"[{table_of(kind, name)}]"


def keys_of(entry: ProviderEntry) -> tuple[str, ...]:
    """The keys of the settings, by name; values are nobody's business."""
    fields: dict[str, Any] = getattr(entry.provider.settings, "model_fields", {})
    return tuple(key for key in fields if key not in _KEYS_OF_THE_CORE.get(entry.kind, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A way to fill a port: a provider's name and the port's kind, and who brought it.

    A plugin that is not enabled is not asked what it brings: it is listed under its own name, with kind None. So is one
    that is enabled and cannot be used, with the ``problem``.
    """

    name: str
    kind: str | None
    plugin: PluginInfo
    api_version: int | None = None
    """Of the hooks, as the plugin says; None: it is not loaded, or says nothing."""
    table: str | None = None
    """Where its settings are, for people; None: it has none."""
    settings: tuple[str, ...] = ()
    """The keys there."""
    problem: str | None = None

    def status(self, *, is_used: bool, is_failing: bool = False) -> str:
        """One word: see :class:`kipuka_core.edges.http.admin_plugins.PluginDirectory`."""
        if self.problem is not None or is_failing:
            return "failing"
        if self.kind is None:
            return "disabled"
        return "active" if is_used or self.kind == NO_PROVIDER else "idle"


def listing(plugins: Plugins) -> list[Listed]:
    """Every provider of the enabled plugins by kind, enabled plugins without any, then those not enabled."""
    listed = [
        Listed(
            name=entry.provider.name,
            kind=entry.kind,
            plugin=entry.plugin,
            table=header_of(entry.kind, entry.provider.name),
            settings=keys_of(entry),
        )
        for entry in plugins.entries
    ]
    with_provider = {each.plugin.name for each in listed} - set(plugins.settings)
    silent = [info for info in plugins.infos if info.enabled and info.name not in with_provider]
    listed += [_extension(info, plugins) for info in silent]
    listed += [Listed(name=info.name, kind=None, plugin=info) for info in plugins.infos if not info.enabled]
    versions = {entry_point.name: _api_version(entry_point) for entry_point in entry_points(group=GROUP)}
    return [
        replace(each, api_version=versions.get(each.plugin.name)) if each.plugin.enabled else each for each in listed
    ]


def _extension(info: PluginInfo, plugins: Plugins) -> Listed:
    model = plugins.settings.get(info.name)
    return Listed(
        name=info.name,
        kind=NO_PROVIDER,
        plugin=info,
        table=f"[{own_table(info.name)}]" if model else None,
        settings=tuple(model.model_fields) if model else (),
    )


def own_table(plugin: str) -> str:
    """Where the settings of a plugin are that belong to none of its providers."""
    return f"plugin.{plugin}"


def survey(enable: Sequence[str]) -> list[Listed]:
    """The listing for these names of ``[plugins] enable``, of whatever can be loaded. Raises nothing.

    What an enabled plugin prints while it is loaded goes to standard error.
    """
    with redirect_stdout(sys.stderr):
        try:
            return listing(load_plugins(enable))
        except (KipukaError, SystemExit):
            return _survey_of_the_sound(enable)


def _survey_of_the_sound(enable: Sequence[str]) -> list[Listed]:
    problems: dict[str, str] = {}
    sound: list[str] = []
    try:
        plugins = load_plugins(())
    except KipukaError as error:
        return list(_without_any(enable, error))
    for name in dict.fromkeys(enable):
        try:
            plugins = load_plugins((*sound, name))
        except SystemExit:
            problems[name] = "ends the process while it is loaded"
        except KipukaError as error:
            problems[name] = _problem(error)
        else:
            sound.append(name)
    listed = [each for each in listing(plugins) if each.plugin.name not in problems]
    infos = {info.name: replace(info, enabled=True) for info in plugins.infos}
    versions = {entry_point.name: _api_version(entry_point) for entry_point in entry_points(group=GROUP)}
    return listed + [
        Listed(
            name=name,
            kind=None,
            plugin=infos.get(name) or PluginInfo(name, NOT_INSTALLED, "", enabled=True),
            api_version=versions.get(name),
            problem=problem,
        )
        for name, problem in problems.items()
    ]


def _without_any(enable: Sequence[str], error: KipukaError) -> Iterator[Listed]:
    """Where not even the built-in plugins can be had: what is installed, and whose fault it is."""
    found = entry_points(group=GROUP)
    claims = Counter(entry_point.name for entry_point in found)
    for entry_point in found:
        about = entry_point.dist
        info = PluginInfo(
            entry_point.name,
            about.name if about else "(unknown)",
            about.version if about else "(unknown)",
            enabled=entry_point.name in enable,
        )
        problem = _problem(error) if claims[entry_point.name] > 1 or len(claims) == len(found) else None
        yield Listed(name=info.name, kind=None, plugin=info, problem=problem)


def _problem(error: KipukaError) -> str:
    """One line; the row says already which plugin it is about."""
    text = error.problem if isinstance(error, ConfigurationError) else str(error)
    return " ".join(text.split())


def _api_version(entry_point: EntryPoint) -> int | None:
    """What the plugin says, if it was imported; it is not imported for this."""
    module = sys.modules.get(entry_point.module)
    parts = (entry_point.attr or "").split(".") if entry_point.attr else []
    plugin = reduce(lambda found, part: getattr(found, part, None), parts, module)
    version = getattr(plugin, "kipuka_api_version", None)
    return version if isinstance(version, int) else None
