"""What ``kipuka plugins check`` looks at, inside of the process that may come to grief over it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, get_args

import click
from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from kipuka_core.assemble import Assembly
from kipuka_core.cli import commands
from kipuka_core.cli.plugins.host import check_routes, host, routes_of, tables_for, with_plugin
from kipuka_core.cli.plugins.lines import lines_to_add
from kipuka_core.cli.plugins.listed import places_of
from kipuka_core.config import Config, load, validate_table
from kipuka_core.domain.guard import Guard
from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.hooks.listing import header_of, keys_of
from kipuka_core.hooks.manager import BUILTIN, GROUP, Plugins, ProviderEntry, load_plugins
from kipuka_core.hooks.provider import Services
from kipuka_core.hooks.spec import API_VERSION, HOOKS
from kipuka_core.model.event import Event
from kipuka_core.testing.quick import Finding, Trial, check_provider

_NAMES_A_SECRET = re.compile(
    r"(password|passphrase|secret|token|pin|api_?key|private_?key)s?(_env)?$|key_env$",
)
_SHORTEST_SECRET = 4
"""What is shorter would be found in every other word."""
_FOR_A_CA = {"ca_backend": {"id": "check"}}


class Output(Protocol):
    """Where what is seen goes to."""

    def write(self, kind: str, value: Any) -> None:
        """Add a record."""
        ...

    def keep_secret(self, *secrets: str) -> None:
        """Never write these."""
        ...


def examine(request: Mapping[str, Any], output: Output) -> None:
    """Look at one plugin, with the configuration of the request if it names one."""
    config = load(Path(request["config"]), os.environ) if request["config"] else None
    examination = Examination(request["plugin"], config, output)
    if examination.loads():
        examination.look()
        asyncio.run(examination.open_all())


@dataclass
class Examination:
    """One plugin, looked at in order: import and hooks, what it brings, and how that works when it is open."""

    plugin: str
    config: Config | None
    output: Output

    @cached_property
    def _plugins(self) -> Plugins:
        return load_plugins(() if self.plugin == BUILTIN else (self.plugin,))

    @property
    def _entries(self) -> list[ProviderEntry]:
        """Its own providers."""
        found = (entry for entries in self._plugins.providers.values() for entry in entries.values())
        return [entry for entry in found if entry.plugin.name == self.plugin]

    def report(self, finding: Finding) -> None:
        """Write a finding down."""
        self.output.write("finding", {"level": finding.level, "what": finding.what, "remedy": finding.remedy})

    def step(self, what: str) -> None:
        """Write down what is done next."""
        self.output.write("step", what)

    # -- import and hooks ----------------------------------------------------------------------------------------------
    def loads(self) -> bool:
        """Whether it can be loaded, alone and beside the plugins that the configuration enables."""
        (entry_point,) = entry_points(group=GROUP, name=self.plugin)
        self.step(f"importing {entry_point.value}")
        try:
            found = self._plugins
        except ConfigurationError as error:
            advice = f"python -c 'import {entry_point.module}' shows where"
            if "cannot be imported" not in error.problem:
                advice = "docs/hooks.md says what hooks there are and what they return"
            self.report(Finding.problem(error.problem, advice))
            return False
        self._keep_secrets()
        plugin = entry_point.load()
        self._api_version(getattr(plugin, "kipuka_api_version", None))
        hooks = [name for name in HOOKS if callable(getattr(plugin, name, None))]
        self._facts(found, hooks)
        if not hooks:
            advice = "write one of docs/hooks.md, marked with @hookimpl"
            self.report(Finding.problem("it has no hook, so enabling it has no effect", advice))
            return False
        self.report(Finding.ok(f"hooks: {', '.join(hooks)}"))
        return self._loads_beside_others()

    def _api_version(self, version: int | None) -> None:
        if version is None:
            advice = f"kipuka_api_version = {API_VERSION}, so that a kipuka that is too old refuses it"
            self.report(Finding.note("it does not say which version of the hooks it was written for", advice))
        else:
            self.report(Finding.ok(f"speaks hook API version {version}; this kipuka speaks {API_VERSION}"))

    def _loads_beside_others(self) -> bool:
        if self.config is None:
            return True
        self.step(f"loading the plugins that {self.config.path} enables")
        try:
            load_plugins(with_plugin(self.config, self.plugin).plugins.enable)
        except ConfigurationError as error:
            advice = f"put it right in the other plugin or in {self.config.path}, or rename what both bring"
            self.report(Finding.problem(f"it does not load beside the plugins enabled already: {error}", advice))
            return False
        return True

    # -- what it brings ------------------------------------------------------------------------------------------------
    def _facts(self, found: Plugins, hooks: list[str]) -> None:
        entries = self._entries
        unused = [entry for entry in entries if self.plugin != BUILTIN and not self._places(entry)]
        self.output.write(
            "facts",
            {
                "hooks": hooks,
                "providers": [
                    {
                        "kind": entry.kind,
                        "name": entry.provider.name,
                        "table": header_of(entry.kind, entry.provider.name),
                        "settings": list(keys_of(entry)),
                        "used_as": self._places(entry),
                    }
                    for entry in entries
                ],
                "commands": [getattr(command, "name", None) or "?" for command in found.commands],
                "routes": self._routes(found),
                "add": self._lines(unused),
            },
        )

    def _lines(self, unused: list[ProviderEntry]) -> list[str]:
        try:
            return lines_to_add(self.config, self.plugin, unused)
        except Exception as error:  # noqa: BLE001  # a model that cannot be described; check_provider says what is wrong
            self.report(Finding.note(f"what to write for it cannot be said: {type(error).__name__}"))
            return []

    def _routes(self, found: Plugins) -> list[str]:
        try:
            return list(routes_of(found.admin_routes))
        except (ConfigurationError, ValueError, AssertionError) as error:
            self.report(Finding.problem(f"its admin routes cannot be added: {error}", "return Quart blueprints"))
            return []

    def _places(self, entry: ProviderEntry) -> list[str]:
        return places_of(self.config, entry.kind, entry.provider.name)

    def look(self) -> None:
        """At what can be judged without opening it."""
        for entry in self._entries:
            self.step(f"looking at {_about(entry)}")
            for finding in check_provider(entry.kind, entry.provider):
                self.report(replace(finding, what=f"{_about(entry)}: {finding.what}"))
        self._commands()

    def _commands(self) -> None:
        self.step("looking at its commands")
        taken = set(commands())
        beside = with_plugin(self.config, self.plugin).plugins.enable if self.config else ()
        others = [name for name in beside if name != self.plugin]
        taken |= {command.name for command in load_plugins(others).commands} if others else set()
        for command in self._plugins.commands:
            if not isinstance(command, click.Command) or not command.name:
                what = f"kipuka_cli_commands returned a {type(command).__name__}"
                self.report(Finding.problem(what, "return click commands with a name"))
            elif command.name in taken:
                what = f"its command 'kipuka {command.name}' exists already"
                self.report(Finding.problem(what, "choose another name: with this one no command of a plugin is found"))
            else:
                self.report(Finding.ok(f"the command 'kipuka {command.name}' is free"))

    # -- how it works --------------------------------------------------------------------------------------------------
    async def open_all(self) -> None:
        """Open every provider as the configuration says, or with its defaults, in a dry run."""
        where = self.config.path if self.config else "a fresh configuration"
        self.step(f"opening {where} in a dry run, with this plugin enabled")
        try:
            async with host(self.config, self.plugin) as assembly:
                for entry in self._entries:
                    for trial in self._trials(entry, assembly):
                        await trial
                await self._try_routes(assembly)
        except KipukaError as error:
            advice = "put that right first; kipuka check says the same once the plugin is enabled"
            self.report(Finding.problem(f"{where} does not open: {error}", advice))

    async def _try_routes(self, assembly: Assembly) -> None:
        if not self._plugins.admin_routes:
            return
        self.step("adding its admin routes")
        try:
            await check_routes(assembly)
        except ConfigurationError as error:
            self.report(Finding.problem(str(error), "choose another name or path for the blueprint"))
        else:
            self.report(Finding.ok("the paths of its admin routes are free"))

    def _trials(self, entry: ProviderEntry, assembly: Assembly) -> Iterator[Any]:
        more = _FOR_A_CA.get(entry.kind, {})
        tables = tables_for(self.config, entry.kind, entry.provider.name)
        for table in tables:
            own = {"id": table.name} if more else {}
            try:
                settings = validate_table(
                    entry.provider.settings,
                    {**table.settings, **own},
                    table.toml_path,
                    base_dir=assembly.config.base_dir,
                )
            except ConfigurationError as error:
                self.report(Finding.problem(str(error), f"change [{table.toml_path}]"))
                continue
            yield self._trial(entry, settings, assembly.services, table.toml_path).run()
        if not tables:
            yield self._with_defaults(entry, more, assembly)

    async def _with_defaults(self, entry: ProviderEntry, more: dict[str, str], assembly: Assembly) -> None:
        try:
            settings = entry.provider.settings.model_validate(more)
        except ValidationError:
            fields = entry.provider.settings.model_fields
            required = ", ".join(key for key, field in fields.items() if field.is_required())
            what = f"{_about(entry)} was not opened: {required or 'some keys'} would have to be set"
            header = header_of(entry.kind, entry.provider.name)
            self.report(Finding.note(what, f"name a configuration with {header}: -c FILE"))
            return
        with TemporaryDirectory(prefix="kipuka-") as name:
            directory = Path(name)
            services = replace(assembly.services, base_dir=directory, state_dir=directory)
            await self._trial(entry, settings, services, header_of(entry.kind, entry.provider.name)).run()
            left = sorted(os.listdir(directory))  # noqa: PTH208  # one entry or none, and nothing else to do meanwhile
        if left:
            what = f"{_about(entry)} made {', '.join(left)} in the state directory in a dry run"
            self.report(Finding.problem(what, "write nothing in open() where services.dry_run is set"))

    def _trial(self, entry: ProviderEntry, settings: BaseModel, services: Services, where: str) -> Trial:
        about = _about(entry)
        used_as = "" if where == header_of(entry.kind, entry.provider.name) else f" ({where})"

        def warn(warning: str) -> None:
            self.report(Finding.note(f"{about} warns: {warning}"))

        return Trial(
            kind=entry.kind,
            provider=entry.provider,
            settings=settings,
            services=replace(services, emit=_unheard, warn=warn),
            where=where,
            about=f"{about}{used_as}",
            report=self.report,
            step=self.step,
            guard=Guard(services.call_timeout_seconds),
        )

    def _keep_secrets(self) -> None:
        for entry in self._entries:
            for table in tables_for(self.config, entry.kind, entry.provider.name):
                found = _secrets(entry.provider.settings, table.settings)
                self.output.keep_secret(*(secret for secret in found if len(secret) >= _SHORTEST_SECRET))


async def _unheard(_event: Event) -> None:
    """Nobody listens."""


def _about(entry: ProviderEntry) -> str:
    return f"{entry.kind.replace('_', ' ')} {entry.provider.name!r}"


def _secrets(model: type[BaseModel], settings: Mapping[str, Any]) -> Iterator[str]:
    """What stands in a table, or in an environment variable that it names, and looks as if it were a secret."""
    for key, value in settings.items():
        field = getattr(model, "model_fields", {}).get(key)
        is_secret = field is not None and {SecretStr, SecretBytes} & {field.annotation, *get_args(field.annotation)}
        if isinstance(value, str) and (is_secret or _NAMES_A_SECRET.search(key)):
            yield os.environ.get(value, "") if key.endswith("_env") else value
