"""What can be told of a plugin before it is asked anything: each problem is one line that says what to change."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from types import NoneType
from typing import Any

from pydantic import BaseModel

from kipuka_core.domain.ports import LockoutLimits
from kipuka_core.hooks.provider import Provider
from kipuka_core.model.certificate import CaProfile

_WORD = re.compile(r"[a-z][a-z0-9_-]*", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_LONGEST_LINE = 500
_ATTRIBUTES: dict[str, tuple[type, ...]] = {
    "lockout_limits": (LockoutLimits, NoneType),
    "schemes": (tuple,),
    "external": (bool,),
    "finds": (bool,),
    "revokes": (bool,),
    "hsm_backed": (bool,),
    "longest_validity": (timedelta, NoneType),
    "may_set": (CaProfile,),
    "hash_name": (str, NoneType),
    "pointers": (Sequence, NoneType),
    "status_authorities": (Sequence,),
}
"""What the core reads of a port without asking, by name."""


def provider_problem(provider: Any) -> str | None:
    """Why the core cannot use what a hook returned as a provider; None: it can."""
    if isinstance(provider, type):
        return f"the class {provider.__name__}, not a Provider; write Provider(NAME, SETTINGS, OPEN)"
    if not isinstance(provider, Provider):
        return f"{type(provider).__name__}, not a Provider; write Provider(NAME, SETTINGS, OPEN)"
    name: Any = provider.name
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        return (
            f"a Provider whose name is {ascii(name)[:80]}; give a word of a-z, 0-9, _ and - that begins with a letter"
        )
    if problem := settings_problem(provider.settings):
        return f"the Provider {provider.name!r}, whose settings are {problem}"
    if not callable(provider.open):
        return (
            f"the Provider {provider.name!r}, whose open is {type(provider.open).__name__} and cannot be called; give a"
            " function of settings and services that is marked with @asynccontextmanager"
        )
    return None


def settings_problem(model: object) -> str | None:
    """Why a class cannot be the settings of a provider; None: it can."""
    if not isinstance(model, type):
        return f"{type(model).__name__} and no class; give a subclass of kipuka_core.Settings, not an instance"
    if not issubclass(model, BaseModel):
        return f"the class {model.__name__}, not a pydantic model; let it inherit from kipuka_core.Settings"
    if not model.model_config.get("frozen"):
        return f"{model.__name__}, which is not frozen; let it inherit from kipuka_core.Settings"
    if model.model_config.get("extra") != "forbid":
        return f"{model.__name__}, which takes unknown keys; let it inherit from kipuka_core.Settings (extra='forbid')"
    return None


def opening_problem(opening: object) -> str | None:
    """Why what a provider's ``open`` returned cannot be entered; None: it can."""
    if isinstance(opening, AbstractAsyncContextManager):
        return None
    let_go(opening)
    if inspect.iscoroutine(opening):
        return "its open is a plain coroutine; mark it with @asynccontextmanager and `yield` the port"
    if inspect.isasyncgen(opening):
        return "its open is not marked with @asynccontextmanager"
    if isinstance(opening, AbstractContextManager):
        return "its open is a synchronous context manager; write `async def` and mark it with @asynccontextmanager"
    return f"its open returned {type(opening).__name__}; mark it with @asynccontextmanager and `yield` the port"


def port_problem(opened: object, port: type) -> str | None:
    """Why what was opened cannot be asked as a port; None: it can.

    ``port`` is the abstract base, :class:`kipuka_core.Authenticator` for example.
    """
    if isinstance(opened, type):
        return f"opened the class {opened.__name__} instead of an instance; yield {opened.__name__}(…)"
    if not isinstance(opened, port):
        return (
            f"opened a {type(opened).__name__}, which is not a {port.__name__}; yield an instance of a subclass of"
            f" kipuka_core.{port.__name__}"
        )
    for name in coroutine_methods(port):
        if not inspect.iscoroutinefunction(getattr(opened, name)):
            return f"has a method {type(opened).__qualname__}.{name} that is no coroutine; write `async def {name}`"
    return _attribute_problem(opened)


def coroutine_methods(port: type) -> tuple[str, ...]:
    """The names of the methods that a port is asked by."""
    return tuple(name for name in dir(port) if inspect.iscoroutinefunction(getattr(port, name)))


def _attribute_problem(opened: object) -> str | None:
    for name, kinds in _ATTRIBUTES.items():
        if not hasattr(type(opened), name):
            continue
        try:
            value: Any = getattr(opened, name)
        except Exception as error:  # noqa: BLE001  # of a property, whatever it is
            return f"raises {type(error).__name__} when it is asked for {name}"
        if not isinstance(value, kinds) or (isinstance(value, str) and str not in kinds):
            wanted = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            return f"says {name} = {type(value).__name__}; it has to be {wanted}"
        if name == "schemes" and (problem := _schemes_problem(value)):
            return problem
    return None


def _schemes_problem(schemes: Any) -> str | None:
    if not schemes:
        return 'serves no URI scheme; say which, such as schemes = ("vault",)'
    for scheme in schemes:
        if not isinstance(scheme, str) or not _SCHEME.fullmatch(scheme):
            return f"names the URI scheme {ascii(scheme)[:80]}; write it in lower case and without the colon"
    return None


def let_go(awaitable: object) -> None:
    """End a coroutine that nobody will await, without a warning of it."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def in_one_line(error: BaseException) -> str:
    """An exception for the line that an operator reads at start-up."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:_LONGEST_LINE]}" if text else name
