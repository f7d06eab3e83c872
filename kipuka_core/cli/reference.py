"""``python -m kipuka_core.cli.reference``: writes every generated page of ``docs/`` anew (``make docs``).

What a page says stands in the code that it is about: docstrings, signatures, option helps, the table of statuses.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import click

from kipuka_core import errors
from kipuka_core.cli import cli, commands
from kipuka_core.cli.hooks_page import field_table, hooks_page
from kipuka_core.cli.http_page import http_text
from kipuka_core.cli.metrics_page import metrics_text
from kipuka_core.cli.source import ClassText, class_text, markdown
from kipuka_core.config.reference import SISTER_PLUGINS, write_reference
from kipuka_core.edges.http.status import status_of
from kipuka_core.hooks.manager import GROUP, load_plugins
from kipuka_core.model import event

_NOTE = "Generated from {source} by `make docs`; do not edit.\n"
_STATUS_OF_CODE = {"internal_error": 500}
"""The HTTP edge answers a defect of its own with this, beside the table."""


def write_pages(directory: Path) -> None:
    """Write every generated page into a directory."""
    write_reference(directory)
    pages = {
        "hooks.md": hooks_page(_NOTE.format(source="`kipuka_core/hooks/spec.py` and the ports and models")),
        "cli.md": cli_page(),
        "events.md": events_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_text(_NOTE.format(source="`kipuka_core/edges/metrics/catalogue.py` and `measuring.py`")),
        "http-api.md": http_text(_NOTE.format(source="`kipuka_core/edges/http`")),
    }
    for name, text in pages.items():
        (directory / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")


# -- commands ----------------------------------------------------------------------------------------------------------
def cli_page() -> str:
    """Every command with its arguments and options."""
    lines = ["# Command line", "", _NOTE.format(source="the commands in `kipuka_core/cli` and those of `kipuka-hsm`")]
    lines += ["Exit codes: 0 for success, 1 for an error (one line on standard error), 2 for a wrong command line.", ""]
    for name, command in (commands() | _sister_commands()).items():
        lines += _command_sections(f"kipuka {name}", command, click.Context(cli, info_name="kipuka"))
    return "\n".join(lines)


def _sister_commands() -> dict[str, click.Command]:
    return {command.name: command for command in load_plugins(SISTER_PLUGINS).commands}


def _command_sections(path: str, command: click.Command, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `{path}`", "", f"`{path} {usage}`", "", inspect.cleandoc(command.help or ""), ""]
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        lines += ["| option | default | |", "|---|---|---|", *map(_option_row, options), ""]
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            lines += _command_sections(f"{path} {name}", below, context)
    return lines


def _option_row(option: click.Option) -> str:
    words = ", ".join(f"`{word}`" for word in option.opts)
    if not option.is_flag:
        words += f" {option.metavar or _choices(option) or option.type.name.upper()}"
    default = option.default
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    has_default = option.show_default and not option.is_flag
    cells = (words, f"`{shown}`" if has_default else "-", option.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _choices(option: click.Option) -> str:
    return " | ".join(option.type.choices) if isinstance(option.type, click.Choice) else ""


# -- events ------------------------------------------------------------------------------------------------------------
def events_page() -> str:
    """Every audit event with its fields."""
    base = class_text(event.Event)
    lines = [
        "# Audit events",
        "",
        _NOTE.format(source="`kipuka_core/model/event.py` and the events of the sister plugins"),
    ]
    lines += [
        markdown(inspect.getdoc(event) or ""),
        "",
        "Each is one JSON object: a line of the log, a line in the file of the sink `jsonl`, a row in the store. Empty",
        "fields are left out.",
        "",
        "## Fields of every event",
        "",
        f"`event` is the name. {base.about.partition('. ')[2]}",
        "",
        *field_table(_without_name(base)),
        "",
    ]
    for cls in _event_classes():
        text = _without_name(class_text(cls))
        lines += [f"## `{cls.name}`", "", text.about, ""]
        if text.fields:
            lines += [f"Further fields: {', '.join(f'`{field.name}`' for field in text.fields)}.", ""]
    return "\n".join(lines)


def _event_classes() -> Iterator[type[event.Event]]:
    for module in (event, *_sister_modules()):
        classes = [value for value in vars(module).values() if isinstance(value, type)]
        for value in classes:
            if issubclass(value, event.Event) and value.__module__ == module.__name__ and value is not event.Event:
                yield value


def _sister_modules() -> Iterator[ModuleType]:
    load_plugins(SISTER_PLUGINS)
    for entry_point in entry_points(group=GROUP):
        if entry_point.name in SISTER_PLUGINS:
            package = entry_point.module.partition(".")[0]
            yield from (sys.modules[name] for name in sorted(sys.modules) if name.startswith(f"{package}."))


def _without_name(text: ClassText) -> ClassText:
    return replace(text, fields=tuple(field for field in text.fields if not field.annotation.startswith("ClassVar")))


# -- errors ------------------------------------------------------------------------------------------------------------
def errors_page() -> str:
    """Every refusal of an EST request: status, code, and the sentence that the client gets."""
    lines = ["# Refusals", "", _NOTE.format(source="`kipuka_core/errors.py` and what raises these errors")]
    lines += [
        "A refused request is answered with a status, one sentence in `text/plain` that says what to change, and the",
        "request's id. The code is in the event `enrolment_refused`, beside the same id; it is stable, the sentence is",
        "not. What a client is told never names a plugin, a path or a secret.",
        "",
        "| status | error | when |",
        "|---|---|---|",
    ]
    kinds = sorted(_kinds(errors.RequestRefused), key=lambda kind: (_status(kind), kind.__name__))
    lines += [
        f"| {_status(kind)} | `{kind.__name__}` | {markdown(inspect.getdoc(kind) or '', line=True)} |" for kind in kinds
    ]
    lines += ["", "## Codes", "", "| status | code | sentence |", "|---|---|---|"]
    lines += sorted(set(_code_rows({kind.__name__: kind for kind in kinds})))
    return "\n".join(lines)


def _kinds(kind: type[errors.RequestRefused]) -> Iterator[type[errors.RequestRefused]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _kinds(below)


def _status(kind: type[errors.RequestRefused]) -> int:
    return status_of(kind.__new__(kind))


def _code_rows(kinds: dict[str, type[errors.RequestRefused]]) -> Iterator[str]:
    for kind in kinds.values():
        yield f"| {_status(kind)} | `{kind.code}` | |"
    for package in ("kipuka_core", "kipuka_builtin"):
        for file in sorted(Path(importlib.import_module(package).__path__[0]).rglob("*.py")):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in kinds:
                    yield from _row_of(call, kinds[call.func.id])


def _row_of(call: ast.Call, kind: type[errors.RequestRefused]) -> Iterator[str]:
    for keyword in call.keywords:
        match keyword:
            case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                status = _STATUS_OF_CODE.get(code, _status(kind))
                sentence = _sentence(call.args[0]) if call.args else ""
                yield f"| {status} | `{code}` | {sentence} |".replace("|  |", "| |")


def _sentence(argument: ast.expr) -> str:
    match argument:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_sentence(part) if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.BoolOp(values=[*_, last]):
            return _sentence(last)
        case _:
            return ""


if __name__ == "__main__":
    write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
