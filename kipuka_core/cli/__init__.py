"""The command ``kipuka``. Subcommands are imported when they are called: ``kipuka --help`` is quick."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from kipuka_core.cli.plugin_commands import config_named_in, plugin_commands
from kipuka_core.errors import KipukaError

_COMMANDS: dict[str, str] = {
    "serve": "kipuka_core.cli.serve:serve",
    "init": "kipuka_core.cli.init:init",
    "check": "kipuka_core.cli.check:check",
    "reload": "kipuka_core.cli.reload:reload",
    "explain": "kipuka_core.cli.explain:explain",
    "doctor": "kipuka_core.cli.doctor:doctor",
    "tls": "kipuka_core.cli.tls:tls",
    "plugins": "kipuka_core.cli.plugins.group:plugins",
    "plugin": "kipuka_core.cli.plugin:plugin",
    "otp": "kipuka_core.cli.otp:otp",
    "certs": "kipuka_core.cli.certs:certs",
    "requests": "kipuka_core.cli.requests:requests",
    "lockouts": "kipuka_core.cli.lockouts:lockouts",
    "audit": "kipuka_core.cli.audit:audit",
    "crl": "kipuka_core.cli.crl:crl",
    "backup": "kipuka_core.cli.backup:backup",
    "restore": "kipuka_core.cli.backup:restore",
}


def commands() -> dict[str, click.Command]:
    """The built-in commands by name."""
    return {name: _load(where) for name, where in _COMMANDS.items()}


def command_names() -> frozenset[str]:
    """The names of the built-in commands; none of them is imported."""
    return frozenset(_COMMANDS)


def _load(where: str) -> click.Command:
    module, _, name = where.partition(":")
    command: click.Command = getattr(importlib.import_module(module), name)
    return command


_CONFIG = f"{__name__}.config"


class _LazyGroup(click.Group):
    """Built-in commands by name, then those of the plugins that the configuration enables."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        try:
            return [*_COMMANDS, *sorted(plugin_commands(_COMMANDS))]
        except KipukaError:  # no configuration that loads: help helps all the same
            return [*_COMMANDS]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[_CONFIG] = config_named_in(args)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            return _load(_COMMANDS[cmd_name])
        try:
            return plugin_commands(_COMMANDS, ctx.meta.get(_CONFIG)).get(cmd_name)
        except KipukaError as error:
            if ctx.resilient_parsing:  # shell completion
                return None
            problem = str(error).partition("\n")[0]
            raise click.UsageError(
                f"kipuka itself has no command {cmd_name!r}, and which ones plugins bring is not known: {problem}", ctx
            ) from None


_HELP = """Give devices their certificates: an EST server (RFC 7030) made of plugins.

\b
Try it:     kipuka serve --dev
Set it up:  kipuka init, kipuka check, kipuka serve
"""


@click.command(
    cls=_LazyGroup,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="kipuka")
def cli() -> None:
    """Hand over to the subcommand."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: an expected error is one line on standard error and exit code 1, never a traceback."""
    try:
        return cli.main(args=arguments, prog_name="kipuka")
    except KipukaError as error:
        for line in str(error).splitlines():
            print(f"kipuka: error: {line}", file=sys.stderr)
        sys.exit(1)
