"""Finding, checking and asking plugins; all of it at start-up, and every doubt is an error that names the distribution.

pluggy's own entry-point loader skips a name that is registered already and ignores functions without ``@hookimpl``:
both are silence where an operator needs a line, so distributions are enumerated here.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
from pydantic import BaseModel

from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks import spec
from kipuka_core.hooks.provider import Provider
from kipuka_core.hooks.soundness import in_one_line, let_go, provider_problem, settings_problem

GROUP = "kipuka.plugins"
BUILTIN = "builtin"

_SETTINGS = "kipuka_settings"

_PROVIDER_HOOKS: dict[str, str] = {
    "kipuka_authenticators": "authenticator",
    "kipuka_policies": "policy",
    "kipuka_ca_backends": "ca_backend",
    "kipuka_key_stores": "key_store",
    "kipuka_tls_material": "tls_material",
    "kipuka_event_sinks": "event_sink",
}

KINDS = tuple(_PROVIDER_HOOKS.values())
"""The kinds of providers."""


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """An entry point of the group ``kipuka.plugins``."""

    name: str
    distribution: str
    version: str
    enabled: bool

    def __str__(self) -> str:
        return f"plugin {self.name!r} of distribution {self.distribution}"


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """A provider and the plugin that brought it."""

    kind: str
    provider: Provider[Any]
    plugin: PluginInfo


@dataclass(slots=True)
class Plugins:
    """Everything that the enabled plugins brought."""

    infos: tuple[PluginInfo, ...]
    providers: dict[str, dict[str, ProviderEntry]] = field(default_factory=dict)
    """By kind, then by provider name."""
    settings: dict[str, type[BaseModel]] = field(default_factory=dict)
    """The model of ``[plugin.NAME]``, by plugin name, of those that have one (``kipuka_settings``)."""
    commands: list[Any] = field(default_factory=list)
    admin_routes: list[Any] = field(default_factory=list)

    @property
    def entries(self) -> list[ProviderEntry]:
        """Every provider, by kind."""
        return [entry for of_kind in self.providers.values() for entry in of_kind.values()]

    def provider(self, kind: str, name: str, where: str) -> Provider[Any]:
        """The provider of this kind and name; ``where`` is the TOML path that named it.

        Raises ConfigurationError that says what exists, or which line enables the plugin that may have it.
        """
        entries = self.providers.get(kind, {})
        if name in entries:
            return entries[name].provider
        disabled = [info for info in self.infos if not info.enabled]
        hint = nearest(name, entries)
        for info in disabled:
            if name in (info.name, info.distribution, info.distribution.removeprefix("kipuka-")):
                hint = f'; distribution {info.distribution} is installed: add "{info.name}" to [plugins] enable'
        known = ", ".join(sorted(entries)) or "none"
        raise ConfigurationError(where, f"no {kind.replace('_', ' ')} is called {name!r}{hint} (known: {known})")


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean "…"?``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def load_plugins(enable: Sequence[str]) -> Plugins:
    """Load the built-in plugins and those of ``[plugins] enable``, check them, and ask them for their providers.

    Raises ConfigurationError.
    """
    found = _installed()
    for name in enable:
        if name not in found:
            known = [each for each in found if each != BUILTIN]
            hint = nearest(name, known) or f" (installed: {', '.join(known) or 'none'})"
            raise ConfigurationError("plugins.enable", f"no installed distribution has a plugin {name!r}{hint}")
    active = dict.fromkeys((BUILTIN, *enable))
    infos = tuple(_info(entry_point, enabled=name in active) for name, entry_point in found.items())
    plugins = Plugins(infos)
    manager = pluggy.PluginManager(spec.PROJECT)
    manager.add_hookspecs(spec)
    for name in active:
        info = next(each for each in infos if each.name == name)
        plugin = _load(found[name], info)
        _check(plugin, info)
        _register(manager, plugin, info)
        if (settings := _own_settings(plugin, info)) is not None:
            plugins.settings[name] = settings
        _collect(manager, plugin, info, plugins)
    return plugins


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=GROUP):
        other = found.setdefault(entry_point.name, entry_point)
        ours, theirs = _distribution(entry_point), _distribution(other)
        if ours != theirs:
            raise ConfigurationError(
                "plugins",
                f"distributions {theirs} and {ours} both claim the plugin name {entry_point.name!r}; uninstall one",
            )
    if BUILTIN not in found:
        raise ConfigurationError("plugins", "the built-in plugins are not installed; reinstall the distribution kipuka")
    return dict(sorted(found.items(), key=lambda item: item[0] != BUILTIN))


def _distribution(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else "(unknown)"


def _info(entry_point: EntryPoint, *, enabled: bool) -> PluginInfo:
    version = entry_point.dist.version if entry_point.dist else "(unknown)"
    return PluginInfo(entry_point.name, _distribution(entry_point), version, enabled)


def _load(entry_point: EntryPoint, info: PluginInfo) -> Any:
    try:
        return entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() while it is imported would end kipuka without a word
        raise ConfigurationError(f"{info}", f"cannot be imported: {in_one_line(error)}") from error


def _check(plugin: Any, info: PluginInfo) -> None:
    _check_api_version(plugin, info)
    for name in dir(plugin):
        value = getattr(plugin, name)
        if name == _SETTINGS or not callable(value):
            continue
        options = getattr(value, f"{spec.PROJECT}_impl", None) if inspect.isroutine(value) else None
        if not (name.startswith("kipuka_") or isinstance(options, dict)):
            continue
        if name not in spec.HOOKS:
            raise ConfigurationError(f"{info}", f"there is no hook {name!r}{nearest(name, spec.HOOKS)}")
        if options is None:
            raise ConfigurationError(f"{info}", f"{name} is not marked with @hookimpl")
        if options.get("wrapper") or options.get("hookwrapper"):
            raise ConfigurationError(f"{info}", f"{name} is a hook wrapper; those are not accepted")


def _check_api_version(plugin: Any, info: PluginInfo) -> None:
    version = getattr(plugin, "kipuka_api_version", spec.API_VERSION)
    if type(version) is not int:
        raise ConfigurationError(f"{info}", f"kipuka_api_version is {version!r}; it has to be a number such as 1")
    if spec.OLDEST_API_VERSION <= version <= spec.API_VERSION:
        return
    spoken = " to ".join(map(str, dict.fromkeys((spec.OLDEST_API_VERSION, spec.API_VERSION))))
    what = "kipuka" if version > spec.API_VERSION else info.distribution
    raise ConfigurationError(
        f"{info}", f"speaks hook API version {version}; this kipuka speaks {spoken}: upgrade {what}"
    )


def _own_settings(plugin: Any, info: PluginInfo) -> type[BaseModel] | None:
    settings: type[BaseModel] | None = getattr(plugin, _SETTINGS, None)
    if settings is not None and (problem := settings_problem(settings)):
        raise ConfigurationError(f"{info}", f"its {_SETTINGS} is {problem}")
    return settings


def _register(manager: pluggy.PluginManager, plugin: Any, info: PluginInfo) -> None:
    try:
        manager.register(plugin, name=info.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigurationError(f"{info}", str(error).replace("\n", " ")) from error


def _collect(manager: pluggy.PluginManager, plugin: Any, info: PluginInfo, plugins: Plugins) -> None:
    hooks = manager.get_hookcallers(plugin)
    if not hooks:
        known = ", ".join(spec.HOOKS)
        raise ConfigurationError(
            f"{info}", f"brings nothing: it has no function that is marked with @hookimpl and called one of {known}"
        )
    for hook in hooks:
        results = list(_results(hook, plugin, info))
        if hook.name in _PROVIDER_HOOKS:
            _add_providers(results, _PROVIDER_HOOKS[hook.name], info, plugins)
        elif hook.name == "kipuka_cli_commands":
            plugins.commands.extend(results)
        else:
            plugins.admin_routes.extend(results)


def _results(hook: pluggy.HookCaller, plugin: Any, info: PluginInfo) -> Iterator[Any]:
    for implementation in hook.get_hookimpls():
        if implementation.plugin is not plugin:
            continue
        try:
            results = implementation.function()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ConfigurationError(f"{info}", f"{hook.name} raised {in_one_line(error)}") from error
        if inspect.isawaitable(results):
            let_go(results)
            raise ConfigurationError(
                f"{info}", f"{hook.name} is a coroutine; hooks are plain functions: write `def {hook.name}()`"
            )
        if not isinstance(results, Sequence) or isinstance(results, str | bytes):
            raise ConfigurationError(
                f"{info}", f"{hook.name} returned {type(results).__name__}; it has to return a list"
            )
        yield from results


def _add_providers(results: Iterable[Any], kind: str, info: PluginInfo, plugins: Plugins) -> None:
    entries = plugins.providers.setdefault(kind, {})
    for provider in results:
        if problem := provider_problem(provider):
            raise ConfigurationError(f"{info}", f"its {kind} hook returned {problem}")
        other = entries.setdefault(provider.name, ProviderEntry(kind, provider, info))
        if other.provider is not provider:
            raise ConfigurationError(
                "plugins",
                f"{other.plugin} and {info} both provide the {kind.replace('_', ' ')} {provider.name!r}; disable one",
            )
