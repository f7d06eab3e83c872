"""The public face, one line for each thing that a plugin can see of it.

``python -m tests.api.listing`` writes the listings of this API version anew: do it once you have decided what the
change means to plugins that are published already (docs/api-version.md).
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pydantic

import kipuka_core
import kipuka_core.testing
from kipuka_core import commands
from kipuka_core.hooks import spec
from kipuka_core.model import event
from kipuka_core.testing import plugin as fixtures

HERE = Path(__file__).parent
LISTINGS = {"face": "what a plugin imports, implements and is given", "kit": "what the tests of a plugin use"}


def committed(name: str, version: int = spec.API_VERSION) -> Path:
    """The file of a listing."""
    return HERE / f"{name}-{version}.txt"


def listing(name: str) -> list[str]:
    """What there is now, sorted."""
    return sorted({*{"face": _face, "kit": _kit}[name]()})


def _face() -> Iterator[str]:
    for name in kipuka_core.__all__:
        yield from _thing(name, getattr(kipuka_core, name))
    yield from _module(commands)
    for name, hook in spec.HOOKS.items():
        yield f"hook {name}{_signature(hook)}"
    for cls in vars(event).values():
        if isinstance(cls, type) and issubclass(cls, event.Event) and cls is not event.Event:
            yield f"event {cls.name}"
            kinds = inspect.get_annotations(cls).items()
            yield from (f"event {cls.name}.{name}: {kind}" for name, kind in kinds if name != "name")


def _kit() -> Iterator[str]:
    for info in pkgutil.walk_packages(kipuka_core.testing.__path__, "kipuka_core.testing."):
        module = importlib.import_module(info.name)
        if ".contracts" in info.name:
            suites = [name for name in vars(module) if name.endswith("Contract")]
            yield from chain.from_iterable(_thing(name, getattr(module, name)) for name in suites)
        elif module is not fixtures:
            yield from _module(module)
    for name, value in vars(fixtures).items():
        if name.startswith("kipuka_"):
            yield f"fixture {name}{_signature(inspect.unwrap(value))}"


def _module(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, typing.TypeVar):
            continue
        if getattr(value, "__module__", "") == module.__name__:
            yield from _thing(f"{module.__name__.removeprefix('kipuka_core.')}.{name}", value)


def _thing(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, type):
        yield from _class(name, value)
    elif isinstance(value, FunctionType):
        yield f"{name}{_signature(value)}"
    elif typing.get_origin(value) is typing.Annotated:  # what it is annotated with has no stable text
        yield f"{name} = {typing.get_args(value)[0].__name__}"
    elif typing.get_origin(value) is not None:
        yield f"{name} = {str(value).replace('kipuka_core.', '')}"
    else:
        yield f"{name}: {type(value).__name__}"


def _class(name: str, cls: type) -> Iterator[str]:
    ours = [base.__name__ for base in cls.__bases__ if base.__module__.startswith("kipuka_core")]
    yield f"{name}({', '.join(ours)})" if ours else f"{name}()"
    if issubclass(cls, enum.Enum):
        yield from (f"{name}.{member.name} = {member.value!r}" for member in cls)
        return
    yield from (f"{name}.{line}" for line in _fields(cls))
    for key, value in _members(cls):
        plain = inspect.unwrap(value.__func__ if isinstance(value, classmethod | staticmethod) else value)
        if isinstance(plain, FunctionType):
            yield f"{name}.{key}{_signature(plain)}"
        elif isinstance(value, property):
            yield f"{name}.{key}: {inspect.signature(value.fget).return_annotation}"  # type: ignore[arg-type]  # has one


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Its own, and what it has of bases that have no line of their own."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("kipuka_core") and (base is cls or base.__name__ not in kipuka_core.__all__):
            for key, value in vars(base).items():
                if not key.startswith(("_", "test_", "model_")) or (key == "__init__" and not _is_value(cls)):
                    found.setdefault(key, value)
    yield from found.items()


def _is_value(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or issubclass(cls, pydantic.BaseModel)


def _fields(cls: type) -> Iterator[str]:
    if dataclasses.is_dataclass(cls):
        for each in dataclasses.fields(cls):
            needed = each.default is each.default_factory is dataclasses.MISSING
            yield f"{each.name}: {each.type}{'' if needed else ' = …'}{' (by name)' if each.kw_only else ''}"
    elif issubclass(cls, pydantic.BaseModel):
        kinds = inspect.get_annotations(cls)
        for name, info in cls.model_fields.items():
            yield f"{name}: {kinds[name]}{'' if info.is_required() else ' = …'}"
    else:
        for base in cls.__mro__:
            if base.__module__.startswith("kipuka_core"):
                yield from (f"{key}: {kind}" for key, kind in inspect.get_annotations(base).items() if key[0] != "_")


def _signature(function: FunctionType) -> str:
    words = [word for word, is_it in _marks(function) if is_it]
    signature = inspect.signature(function)
    parameters = [_without_default(each) for each in signature.parameters.values()]
    written = str(signature.replace(parameters=parameters)).replace("'", "")
    return f"{written}{''.join(f' [{word}]' for word in words)}"


def _without_default(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter if parameter.default is parameter.empty else parameter.replace(default=_SOMETHING)


class _Something:
    """That there is a default is seen from a call; which one it is, is behaviour."""

    def __repr__(self) -> str:
        return "…"


_SOMETHING = _Something()


def _marks(function: FunctionType) -> Iterator[tuple[str, bool]]:
    yield "abstract", getattr(function, "__isabstractmethod__", False)
    yield "coroutine", inspect.iscoroutinefunction(function)


if __name__ == "__main__":
    for each in LISTINGS:
        committed(each).write_text("".join(f"{line}\n" for line in listing(each)), encoding="utf-8")
