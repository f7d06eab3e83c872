"""The page of hooks: what a plugin is asked, is given, may raise and is lent."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import kipuka_core
from kipuka_core.cli.source import ClassText, class_text, markdown
from kipuka_core.domain import ports
from kipuka_core.edges.http.status import status_of
from kipuka_core.errors import RequestRefused
from kipuka_core.hooks import provider, spec

_PORTS = ("Authenticator", "Policy", "CaBackend", "KeyStore", "TlsMaterial", "EventSink")
_PROVIDER_PARTS = ("Provider", "Services", "Settings")
_ALIASES = (
    '| `Duration` | `int` | Seconds in a setting, 1 or more: a number, or `"90s"`, `"15m"`, `"24h"`, `"90d"`. |',
    "| `Verdict` | `Allow \\| Deny \\| Wait` | What a policy says. |",
    "| `SigningHash` | `hashes.SHA256 \\| hashes.SHA384 \\| hashes.SHA512` | What certificates are signed with. |",
)


def hooks_page(note: str) -> str:
    """Every hook, every port, and everything that a plugin is given or lent."""
    lines = ["# Hooks and ports", "", note]
    lines += [
        "How to write a plugin is told in [plugins.md](plugins.md). Everything here is imported from `kipuka_core`.",
        f"This kipuka speaks hook API version {spec.API_VERSION}.",
        "",
        "## Hooks",
        "",
        markdown(inspect.getdoc(spec) or "").partition("\n\n")[2].partition("\nThe reference")[0],
        "",
        "| hook | returns | |",
        "|---|---|---|",
    ]
    for name, hook in spec.HOOKS.items():
        lines.append(f"| `{name}` | `{hook.__annotations__['return']}` | {markdown(inspect.getdoc(hook) or '')} |")
    lines += ["", "## Ports", "", markdown(inspect.getdoc(ports) or "").partition("\n\n")[2], ""]
    for name in _PORTS:
        lines += _class_section(getattr(kipuka_core, name))
    lines += ["## Providers", "", markdown(inspect.getdoc(provider) or ""), ""]
    for name in _PROVIDER_PARTS:
        lines += _class_section(getattr(provider, name))
    lines += ["## Values", "", "What ports are given and what they return.", ""]
    for cls in _values():
        lines += _class_section(cls)
    lines += ["## Types", "", "| name | stands for | |", "|---|---|---|", *_ALIASES, ""]
    lines += [
        "## Errors",
        "",
        "What a plugin may raise on purpose; any other exception is a failure of the plugin.",
        "",
    ]
    for error in _errors():
        lines += _error_section(error)
    lines += ["## Functions", "", "Lent to plugins, so that they look at names, keys and files as kipuka does.", ""]
    for function in _functions():
        lines += _function_section(function)
    return "\n".join(lines)


def _values() -> Iterator[type]:
    """The classes of the face that are neither ports, providers nor errors, by name."""
    shown = {*_PORTS, *_PROVIDER_PARTS, "Event"}
    for name in kipuka_core.__all__:
        value = getattr(kipuka_core, name)
        if isinstance(value, type) and name not in shown and not issubclass(value, Exception):
            yield value


def _errors() -> Iterator[type[Exception]]:
    for name in kipuka_core.__all__:
        value = getattr(kipuka_core, name)
        if isinstance(value, type) and issubclass(value, Exception):
            yield value


def _functions() -> Iterator[FunctionType]:
    values = (getattr(kipuka_core, name) for name in kipuka_core.__all__)
    return (value for value in values if isinstance(value, FunctionType))


def _error_section(error: type[Exception]) -> list[str]:
    about = markdown(inspect.getdoc(error) or "")
    if issubclass(error, RequestRefused):
        about += f"\n\nThe client gets {status_of(error.__new__(error))}."
    return [f"### `{error.__name__}{_written(error.__init__)}`", "", about, ""]


def _function_section(function: FunctionType) -> list[str]:
    return [f"### `{function.__name__}{_written(function)}`", "", markdown(inspect.getdoc(function) or ""), ""]


def _written(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name not in {"self", "args", "kwargs"}]
    without_self = signature.replace(parameters=parameters)
    return str(without_self).replace("'", "").removesuffix(" -> None")


def _class_section(cls: type) -> list[str]:
    text = class_text(cls)
    lines = [f"### `{text.name}`", "", text.about, ""]
    if text.fields:
        lines += [*field_table(text), ""]
    for method in text.methods:
        lines += [f"#### `{method.signature}`", "", method.about, ""]
    return lines


def field_table(text: ClassText) -> list[str]:
    """The fields of a class as rows of Markdown."""
    lines = ["| name | type | default | |", "|---|---|---|---|"]
    for field in text.fields:
        default = f"`{field.default}`" if field.default else "-"
        cells = (f"`{field.name}`", f"`{field.annotation}`" if field.annotation else "-", default, field.about)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return lines
