"""Opening a provider in a dry run, asking its port what changes nothing, closing it, and all of it once more."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

import kipuka_core
from kipuka_core.config.values import ProviderName
from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.port import Port
from kipuka_core.domain.ports import Authenticator, EventSink, KeyStore, Policy, TlsMaterial
from kipuka_core.errors import ConfigurationError, KipukaError, PluginFailed, detail_of
from kipuka_core.hooks.lifecycle import open_port
from kipuka_core.hooks.provider import Provider, Services
from kipuka_core.quick_contracts.finding import Finding
from kipuka_core.quick_contracts.settings import check_settings_model

_CORE = Path(kipuka_core.__file__).parent
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
PORTS: dict[str, type[Port]] = {
    "authenticator": Authenticator,
    "policy": Policy,
    "ca_backend": CaBackend,
    "key_store": KeyStore,
    "tls_material": TlsMaterial,
    "event_sink": EventSink,
}


def check_provider(kind: str, provider: Provider[Any]) -> Iterator[Finding]:
    """What can be said of a provider without opening it."""
    try:
        TypeAdapter(ProviderName).validate_python(provider.name)
    except ValidationError:
        yield Finding.problem(
            f"the name {provider.name!r} cannot stand in kipuka.toml",
            "begin with a letter or digit, and go on with letters, digits, dots, dashes and underscores",
        )
    if not callable(provider.open):
        yield Finding.problem("open cannot be called", "give Provider an async context manager function")
    yield from check_settings_model(kind, provider.settings)


class CannotAsk(Exception):
    """A question was not answered as it has to be; the finding is made already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One use of a provider: its settings, what it is lent (``services.dry_run``), and who hears of what is found.

    ``about`` is what findings call it: ``policy 'plant'``. ``where`` is the TOML path of the settings.
    """

    kind: str
    provider: Provider[Any]
    settings: BaseModel
    services: Services
    where: str
    about: str
    report: Callable[[Finding], None]
    step: Callable[[str], None]
    """Told what is done next, so that it is known what a plugin that takes the process down was doing."""
    guard: Guard

    async def run(self) -> None:
        """All of it. Findings are reported; raises nothing but what is no Exception."""
        for again in ("", " again"):
            stack = AsyncExitStack()
            failures: list[BaseException] = []
            works = await self._open(stack, again, failures)
            works &= await self._close(stack, again, failures)
            if not works:
                return
        self.report(Finding.ok(f"{self.about} opens, closes, and opens again"))

    def _watched(self, failures: list[BaseException]) -> Provider[Any]:
        """The provider, noting what is raised when its port is closed, whoever may swallow that."""

        @wraps(self.provider.open)
        def open_it(settings: Any, services: Services) -> Any:
            opening: Any = self.provider.open(settings, services)
            return _Watched(opening, failures) if isinstance(opening, AbstractAsyncContextManager) else opening

        return replace(self.provider, open=open_it)

    async def _open(self, stack: AsyncExitStack, again: str, failures: list[BaseException]) -> bool:
        from kipuka_core.quick_contracts.questions import QUESTIONS  # noqa: PLC0415  # they are asked by this class

        self.step(f"opening {self.about}{again}")
        try:
            port: Any = await open_port(
                self._watched(failures),
                self.settings,
                self.services,
                port=PORTS[self.kind],
                where=self.where,
                stack=stack,
            )
        except ConfigurationError as error:
            what = f"{self.about} does not open{again}: {error}{place_of(error)}"
            self.report(Finding.problem(what, "do what it says; what is raised in open() stops the start of a server"))
            return False
        if again:
            return True
        for question in (_ping, QUESTIONS[self.kind]):
            try:
                await question(self, port)
            except CannotAsk:
                continue
        return True

    async def ask(self, what: str, method: Callable[..., Awaitable[Any]], *arguments: Any, expect: Any) -> Any:
        """The answer to ``method(*arguments)``. Raises CannotAsk, after a finding, where it is none of that type."""
        self.step(f"asking {self.about} for {what}")
        try:
            return await self.guard.call(self.about, method, *arguments, expect=expect)
        except Exception as error:  # whatever it is, it is no answer
            named = isinstance(error, KipukaError) and not isinstance(error, PluginFailed)
            said = f"raised {type(error).__name__}: {error}" if named else detail_of(error)
            asked = "" if method.__name__ in said else f"{what} "
            place = "" if " in line " in said else place_of(error)
            self.problem(f"{asked}{said}{place}", f"{method.__name__} has to answer this with {_names(expect)}")
            raise CannotAsk from error

    def ok(self, what: str) -> None:
        """A good answer."""
        self.report(Finding.ok(f"{self.about}: {what}"))

    def problem(self, what: str, remedy: str) -> None:
        """A bad one."""
        self.report(Finding.problem(f"{self.about}: {what}", remedy))

    async def _close(self, stack: AsyncExitStack, again: str, failures: list[BaseException]) -> bool:
        self.step(f"closing {self.about}{again}")
        try:
            await stack.aclose()
        except Exception as error:  # noqa: BLE001  # whatever it is, a stop of the server would meet it too
            failures.append(error)
        for failure in failures[-1:]:
            what = f"closing it{again} raised {type(failure).__name__}{place_of(failure)}"
            self.problem(what, "catch it: nothing may be raised after yield")
        return not failures


class _Watched(AbstractAsyncContextManager[Any]):
    """Another context manager, and what it raises when it is left."""

    def __init__(self, opening: AbstractAsyncContextManager[Any], failures: list[BaseException]) -> None:
        self._opening = opening
        self._failures = failures

    async def __aenter__(self) -> Any:
        return await self._opening.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._opening.__aexit__(kind, raised, trace)
        except Exception as error:
            self._failures.append(error)
            raise


async def _ping(trial: Trial, port: Port) -> None:
    await trial.ask("ping()", port.ping, expect=NoneType)


def place_of(error: BaseException) -> str:
    """Where an exception of a plugin was raised, `` (plant.py, line 31)``; empty for one that the core raised itself.

    Never what it says: a foreign exception may hold anything, a secret too.
    """
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        theirs = [each for each in frames if _is_of_a_plugin(Path(each.filename))]
        if theirs:
            return f" ({theirs[-1].filename.rpartition('/')[2]}, line {theirs[-1].lineno})"
        cause = cause.__cause__
    return ""


def _is_of_a_plugin(file: Path) -> bool:
    if file.is_relative_to(_CORE) or not file.is_absolute():  # <frozen …>, <string>
        return False
    return not file.is_relative_to(_STANDARD_LIBRARY) or "-packages" in str(file)


def _names(expect: Any) -> str:
    types = expect if isinstance(expect, tuple) else (expect,)
    return " or ".join("None" if each is NoneType else each.__name__ for each in types)
