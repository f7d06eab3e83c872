"""``kipuka plugins check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kipuka_core.cli.arguments import Seconds
from kipuka_core.cli.common import config_option
from kipuka_core.cli.plugins.contained import Told, told_by_process
from kipuka_core.cli.plugins.installed import Installed, not_installed, plugins_named
from kipuka_core.cli.plugins.listed import configuration_if_any
from kipuka_core.hooks.listing import words_for

_PROBLEM = "problem"
_WIDTH = 13


@click.command("check")
@click.argument("name")
@config_option
@click.option(
    "--timeout",
    "timeout_seconds",
    type=Seconds(),
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="For everything about one plugin; then its process is killed.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
def check_plugin(name: str, config_path: Path | None, timeout_seconds: int, as_json: bool) -> None:
    """Try a plugin, enabled or not, and say what it would do; exit code 1 when something is wrong with it.

    NAME is a plugin or a distribution. It is loaded in a process of its own and held against the contracts in short:
    hooks, names, settings; where the configuration has settings for it, or it needs none, it is opened in a dry run, as
    in `kipuka check`, asked what changes nothing, closed, and opened again. Nothing is issued, told to a sink or
    written.
    """
    found = plugins_named(name)
    if not found:
        raise not_installed(name)
    config = configuration_if_any(config_path)
    request = {"do": "check", "config": str(config.path) if config else None}
    reports = [
        _report(each, told_by_process({**request, "plugin": each.name}, timeout_seconds=timeout_seconds))
        for each in found
    ]
    if as_json:
        click.echo(json.dumps(reports, indent=2, ensure_ascii=False))
    else:
        for report in reports:
            _print(report)
    sys.exit(any(finding["level"] == _PROBLEM for report in reports for finding in report["findings"]))


def _report(plugin: Installed, told: Told) -> dict[str, Any]:
    facts: dict[str, Any] = next(iter(told.all("facts")), {})
    return {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "hooks": facts.get("hooks", []),
        "providers": facts.get("providers", []),
        "commands": facts.get("commands", []),
        "routes": facts.get("routes", []),
        "table": facts.get("table"),
        "add": facts.get("add", []),
        "findings": [*told.all("finding"), *_of_the_process(told)],
    }


def _of_the_process(told: Told) -> Iterator[dict[str, str]]:
    for error in told.all("error"):
        yield _problem(error, "change what it names")
    if told.printed:
        yield _problem(
            "it writes to standard output, where commands print what others read",
            "use logging instead of print; a line on standard output comes between those of every command",
        )
    if told.end:
        advice = "a server would meet the same: look for what does that in the plugin"
        if told.step == "ending":
            advice = "stop every thread and process when the port is closed"
        yield _problem(f"it {told.end} while {told.step}", advice)


def _problem(what: str, remedy: str) -> dict[str, str]:
    return {"level": _PROBLEM, "what": what, "remedy": remedy}


def _print(report: dict[str, Any]) -> None:
    click.echo(f"plugin {report['plugin']!r} of distribution {report['distribution']} {report['version']}")
    for name, value in _facts(report):
        click.echo(f"  {name:<{_WIDTH}}  {value}")
    for finding in report["findings"]:
        click.echo(f"{finding['level']}: {finding['what']}")
        if finding["remedy"]:
            click.echo(f"  do: {finding['remedy']}")
    if report["add"]:
        click.echo("To use it, in kipuka.toml:")
        for line in report["add"]:
            click.echo(f"  {line}".rstrip())


def _facts(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from (("hook", hook) for hook in report["hooks"])
    for each in report["providers"]:
        use = f"used as {', '.join(each['used_as'])}" if each["used_as"] else "not used"
        settings = f"settings in {each['table']}" if each["settings"] else "no settings"
        yield words_for(each["kind"]), f"{each['name']}, {settings}, {use}"
    if report["table"]:
        yield "settings", f"{report['table']}, for its commands and admin routes"
    yield from (("command", f"kipuka {command}") for command in report["commands"])
    yield from (("admin route", route) for route in report["routes"])
