"""Mistakes in hooks and providers: the start stops, before anything is opened."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict

from kipuka_core import Provider, Settings, hookimpl
from tests.kit.careless.sound import SoundAuthenticator
from tests.kit.careless.table import AtStart, Careless, Contract, opening, with_hook

HOOK = "kipuka_authenticators"
OPEN = opening(SoundAuthenticator)


def _providers(name: str = "sound") -> list[Any]:
    return [Provider(name, Settings, OPEN)]


async def _coroutine() -> list[Any]:
    return _providers()


def _raises(error: BaseException) -> NoReturn:
    raise error


class _Mutable(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Open(BaseModel):
    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True)
class _NoModel:
    file: str = ""


def _settings(model: Any, says: str, mistake: str) -> Careless:
    return Careless(
        mistake=mistake,
        provider=lambda name: Provider(name, model, OPEN),
        contract=Contract(test="test_its_provider_is_one_that_the_core_takes", says=says),
        server=AtStart(says=says),
    )


ROWS = [
    Careless(
        mistake="the import fails",
        plugin=lambda: _raises(ImportError("no module named ldap9\nsecond line")),
        server=AtStart(says="cannot be imported: ImportError: no module named ldap9 second line"),
    ),
    Careless(
        mistake="the import calls sys.exit()",
        plugin=lambda: sys.exit(0),
        server=AtStart(says="cannot be imported: SystemExit: 0"),
    ),
    Careless(
        mistake="a hook is not decorated",
        plugin=lambda: SimpleNamespace(**{HOOK: _providers}),
        server=AtStart(says="kipuka_authenticators is not marked with @hookimpl"),
    ),
    Careless(
        mistake="a hook is misspelt",
        plugin=lambda: with_hook("kipuka_authenticator", _providers),
        server=AtStart(
            says="there is no hook 'kipuka_authenticator'; did you mean \"kipuka_authenticators\"?",
        ),
    ),
    Careless(
        mistake="a hook lacks its prefix",
        plugin=lambda: with_hook("authenticators", _providers),
        server=AtStart(says="there is no hook 'authenticators'; did you mean \"kipuka_authenticators\"?"),
    ),
    Careless(
        mistake="it has no hook at all",
        plugin=lambda: SimpleNamespace(authenticators=_providers),
        server=AtStart(
            says="brings nothing: it has no function that is marked with @hookimpl and called one of kipuka_"
        ),
    ),
    Careless(
        mistake="a hook is a coroutine",
        plugin=lambda: with_hook(HOOK, _coroutine),
        server=AtStart(says="kipuka_authenticators is a coroutine; hooks are plain functions: write `def"),
    ),
    Careless(
        mistake="a hook returns a coroutine",
        plugin=lambda: with_hook(HOOK, lambda: _coroutine()),  # noqa: PLW0108  # a plain function
        server=AtStart(says="kipuka_authenticators is a coroutine; hooks are plain functions: write `def"),
    ),
    Careless(
        mistake="a hook returns one provider and no list",
        plugin=lambda: with_hook(HOOK, lambda: _providers()[0]),
        server=AtStart(says="kipuka_authenticators returned Provider; it has to return a list"),
    ),
    Careless(
        mistake="a hook returns a class",
        plugin=lambda: with_hook(HOOK, lambda: [SoundAuthenticator]),
        server=AtStart(
            says="returned the class SoundAuthenticator, not a Provider; write Provider(NAME, SETTINGS, OPEN)"
        ),
    ),
    Careless(
        mistake="a hook calls sys.exit()",
        plugin=lambda: with_hook(HOOK, lambda: sys.exit("no licence")),
        server=AtStart(says="kipuka_authenticators raised SystemExit: no licence"),
    ),
    Careless(
        mistake="a hook is a wrapper",
        plugin=lambda: SimpleNamespace(**{HOOK: hookimpl(wrapper=True)(lambda: _providers("sound"))}),
        server=AtStart(says="kipuka_authenticators is a hook wrapper; those are not accepted"),
    ),
    Careless(
        mistake="it speaks a newer API",
        plugin=lambda: with_hook(HOOK, _providers, kipuka_api_version=99),
        server=AtStart(says="speaks hook API version 99"),
    ),
    Careless(
        mistake="it claims the name of a built-in provider",
        plugin=lambda: with_hook(HOOK, lambda: _providers("otp")),
        server=AtStart(says="both provide the authenticator 'otp'; disable one"),
    ),
    Careless(
        mistake="its name is no word",
        provider=lambda _name: Provider("My Plugin!", Settings, OPEN),
        contract=Contract(
            test="test_its_provider_is_one_that_the_core_takes", says="whose name is 'My Plugin!'; give a word of a-z"
        ),
        server=AtStart(says="whose name is 'My Plugin!'; give a word of a-z"),
    ),
    _settings(
        _Mutable, "_Mutable, which is not frozen; let it inherit from kipuka_core.Settings", "settings not frozen"
    ),
    _settings(
        _Open, "_Open, which takes unknown keys; let it inherit from kipuka_core.Settings", "settings not strict"
    ),
    _settings(
        _NoModel, "_NoModel, not a pydantic model; let it inherit from kipuka_core.Settings", "settings no model"
    ),
    _settings(Settings(), "Settings and no class; give a subclass of kipuka_core.Settings", "settings an instance"),
    Careless(
        mistake="its open cannot be called",
        provider=lambda name: Provider(name, Settings, nullcontext(SoundAuthenticator())),  # type: ignore[arg-type]
        contract=Contract(
            test="test_its_provider_is_one_that_the_core_takes",
            says="whose open is nullcontext and cannot be called; give a function of settings and services",
        ),
        server=AtStart(says="whose open is nullcontext and cannot be called; give a function of settings and services"),
    ),
]
