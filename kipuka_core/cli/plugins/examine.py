"""What ``kipuka plugins check`` looks at, inside of the process that may come to grief over it.

What opening takes is imported after the plugin: half a second is enough to say that an import fails.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from kipuka_core.cli.plugins.configured import secrets_in, tables_for, with_plugin
from kipuka_core.cli.plugins.lines import lines_to_add
from kipuka_core.cli.plugins.subject import Output, Subject, about
from kipuka_core.config import load
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.listing import header_of, keys_of, own_table
from kipuka_core.hooks.manager import BUILTIN, GROUP, Plugins, ProviderEntry, load_plugins
from kipuka_core.hooks.spec import API_VERSION, HOOKS
from kipuka_core.quick_contracts import Finding, check_provider, check_settings_model


def examine(request: Mapping[str, Any], output: Output) -> None:
    """Look at one plugin, with the configuration of the request if it names one."""
    config = load(Path(request["config"]), os.environ) if request["config"] else None
    subject = Subject(request["plugin"], config, output)
    if not loads(subject):
        return
    look(subject)
    subject.step("getting ready to open it")
    from kipuka_core.cli.plugins.trying import open_all  # noqa: PLC0415  # see above

    asyncio.run(open_all(subject))


# -- import and hooks ----------------------------------------------------------------------------------------------
def loads(subject: Subject) -> bool:
    """Whether it can be loaded, alone and beside the plugins that the configuration enables."""
    (entry_point,) = entry_points(group=GROUP, name=subject.name)
    subject.step(f"importing {entry_point.value}")
    try:
        found = subject.plugins
    except ConfigurationError as error:
        advice = f"python -c 'import {entry_point.module}' shows where"
        if "cannot be imported" not in error.problem:
            advice = "docs/hooks.md says what hooks there are and what they return"
        subject.report(Finding.problem(error.problem, advice))
        return False
    _keep_secrets(subject)
    plugin = entry_point.load()
    _api_version(subject, getattr(plugin, "kipuka_api_version", None))
    hooks = [name for name in HOOKS if callable(getattr(plugin, name, None))]
    _facts(subject, found, hooks)
    if not hooks:
        advice = "write one of docs/hooks.md, marked with @hookimpl"
        subject.report(Finding.problem("it has no hook, so enabling it has no effect", advice))
        return False
    subject.report(Finding.ok(f"hooks: {', '.join(hooks)}"))
    return _loads_beside_others(subject)


def _api_version(subject: Subject, version: int | None) -> None:
    if version is None:
        advice = f"kipuka_api_version = {API_VERSION}, so that a kipuka that is too old refuses it"
        subject.report(Finding.note("it does not say which version of the hooks it was written for", advice))
    else:
        subject.report(Finding.ok(f"speaks hook API version {version}; this kipuka speaks {API_VERSION}"))


def _loads_beside_others(subject: Subject) -> bool:
    if subject.config is None:
        return True
    subject.step(f"loading the plugins that {subject.config.path} enables")
    try:
        load_plugins(with_plugin(subject.config, subject.name).plugins.enable)
    except ConfigurationError as error:
        advice = f"put it right in the other plugin or in {subject.config.path}, or rename what both bring"
        subject.report(Finding.problem(f"it does not load beside the plugins enabled already: {error}", advice))
        return False
    return True


# -- what it brings ------------------------------------------------------------------------------------------------
def _facts(subject: Subject, found: Plugins, hooks: list[str]) -> None:
    entries = subject.entries
    unused = [entry for entry in entries if subject.name != BUILTIN and not subject.places(entry)]
    subject.output.write(
        "facts",
        {
            "hooks": hooks,
            "providers": [
                {
                    "kind": entry.kind,
                    "name": entry.provider.name,
                    "table": header_of(entry.kind, entry.provider.name),
                    "settings": list(keys_of(entry)),
                    "used_as": subject.places(entry),
                }
                for entry in entries
            ],
            "commands": [getattr(command, "name", None) or "?" for command in found.commands],
            "routes": _routes(subject, found),
            "table": f"[{own_table(subject.name)}]" if subject.own_settings else None,
            "add": _lines(subject, unused),
        },
    )


def _lines(subject: Subject, unused: list[ProviderEntry]) -> list[str]:
    try:
        return lines_to_add(
            subject.config, subject.name, unused, subject.own_settings if subject.lacks_own_settings else None
        )
    except Exception as error:  # noqa: BLE001  # a model that cannot be described; check_provider says what is wrong
        subject.report(Finding.note(f"what to write for it cannot be said: {type(error).__name__}"))
        return []


def _routes(subject: Subject, found: Plugins) -> list[str]:
    if not found.admin_routes:
        return []
    from kipuka_core.cli.plugins.host import routes_of  # noqa: PLC0415  # takes the whole server along

    try:
        return list(routes_of(found.admin_routes))
    except (ConfigurationError, ValueError, AssertionError) as error:
        subject.report(Finding.problem(f"its admin routes cannot be added: {error}", "return Quart blueprints"))
        return []


def look(subject: Subject) -> None:
    """At what can be judged without opening it."""
    for entry in subject.entries:
        subject.step(f"looking at {about(entry)}")
        for finding in check_provider(entry.kind, entry.provider):
            subject.report(replace(finding, what=f"{about(entry)}: {finding.what}"))
    if subject.own_settings is not None:
        for finding in check_settings_model("plugin", subject.own_settings):
            subject.report(replace(finding, what=f"[{own_table(subject.name)}]: {finding.what}"))
    _commands(subject)


def _commands(subject: Subject) -> None:
    if not subject.plugins.commands:
        return
    from kipuka_core.cli import commands  # noqa: PLC0415  # takes the whole server along

    subject.step("looking at its commands")
    taken = set(commands())
    beside = with_plugin(subject.config, subject.name).plugins.enable if subject.config else ()
    others = [name for name in beside if name != subject.name]
    taken |= {command.name for command in load_plugins(others).commands} if others else set()
    for command in subject.plugins.commands:
        if not isinstance(command, click.Command) or not command.name:
            what = f"kipuka_cli_commands returned a {type(command).__name__}"
            subject.report(Finding.problem(what, "return click commands with a name"))
        elif command.name in taken:
            what = f"its command 'kipuka {command.name}' exists already"
            subject.report(Finding.problem(what, "choose another name: with this one no command of a plugin is found"))
        else:
            subject.report(Finding.ok(f"the command 'kipuka {command.name}' is free"))


def _keep_secrets(subject: Subject) -> None:
    for entry in subject.entries:
        for table in tables_for(subject.config, entry.kind, entry.provider.name):
            subject.output.keep_secret(*secrets_in(entry.provider.settings, table.settings))
