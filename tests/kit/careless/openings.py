"""Mistakes in opening and closing, and in what every port has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import Field, field_validator

from kipuka_core import Offer, Provider, Services, Settings
from tests.kit.careless.sound import HIDDEN, PASSWORD, SoundAuthenticator, SoundSink
from tests.kit.careless.table import AtRequest, AtStart, Careless, Contract, Unseen

_OPENS = "test_it_opens_a_port_with_coroutine_methods"
_CLOSES = "test_closing_ends_what_it_began_and_twice_does_no_harm"
_SETTINGS = "test_its_settings_refuse_unknown_keys_and_explain_known_ones"
NO_HARM = "the server closes the rest, and says so in one line"


async def _plain(_settings: Settings, _services: Services) -> SoundAuthenticator:
    return SoundAuthenticator()


async def _undecorated(_settings: Settings, _services: Services) -> AsyncIterator[SoundAuthenticator]:
    yield SoundAuthenticator()


@asynccontextmanager
async def _a_class(_settings: Settings, _services: Services) -> AsyncIterator[Any]:
    yield SoundAuthenticator


@asynccontextmanager
async def _something_else(_settings: Settings, _services: Services) -> AsyncIterator[Any]:
    yield {"authenticate": lambda _offer: None}


@asynccontextmanager
async def _exits(_settings: Settings, _services: Services) -> AsyncIterator[Any]:
    sys.exit(3)
    yield


@asynccontextmanager
async def _swallows(_settings: Settings, _services: Services) -> AsyncIterator[SoundAuthenticator]:
    with suppress(Exception):
        yield SoundAuthenticator()


class _OnceOnly:
    """Opens well and closes badly."""

    def __init__(self, _settings: Settings, _services: Services) -> None:
        self.connections = ["open"]

    async def __aenter__(self) -> SoundAuthenticator:
        return SoundAuthenticator()

    async def __aexit__(self, *_error: object) -> None:
        self.connections.pop()


@asynccontextmanager
async def _breaks_at_its_end(_settings: Settings, _services: Services) -> AsyncIterator[SoundAuthenticator]:
    yield SoundAuthenticator()
    raise ConnectionResetError(f"while logging out with {PASSWORD}")


@asynccontextmanager
async def _leaves_a_task(_settings: Settings, _services: Services) -> AsyncIterator[SoundAuthenticator]:
    async def poll() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(poll())
    yield SoundAuthenticator()
    task.add_done_callback(lambda _task: None)


@asynccontextmanager
async def _writes_when_dry(_settings: Settings, services: Services) -> AsyncIterator[SoundAuthenticator]:
    (services.state_dir / "careless.cache").write_text("made by kipuka check", encoding="utf-8")
    yield SoundAuthenticator()


class _Sync(SoundAuthenticator):
    def authenticate(self, offer: Offer) -> Any:
        return None


class _ShowsItsPassword(Settings):
    password: str = Field(default=HIDDEN, description="For the directory.")


class _Undescribed(Settings):
    limit: int = 3


class _Typeless(Settings):
    limit: Any = Field(default=3, description="How many.")


class _Crashes(Settings):
    file: str = Field(default="a.txt", description="A file.")

    @field_validator("file", mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        return value.strip()


class _ShowsItself(SoundAuthenticator):
    def __repr__(self) -> str:
        return f"Directory(password={HIDDEN!r})"


class _TellsItAll(SoundAuthenticator):
    async def authenticate(self, offer: Offer) -> Any:
        if self.knows(offer):
            raise ValueError(f"cannot log in with {HIDDEN}")
        return None


def _opened_by(open_it: Any, mistake: str, contract: Contract, server: AtStart | Unseen) -> Careless:
    return Careless(
        mistake=mistake, provider=lambda name: Provider(name, Settings, open_it), contract=contract, server=server
    )


def _with(settings: type[Settings], mistake: str, contract: Contract) -> Careless:
    return Careless(
        mistake=mistake,
        provider=lambda name: Provider(name, settings, _well),
        contract=contract,
        server=Unseen(because="what the operator has written is right, and nobody is shown it"),
    )


@asynccontextmanager
async def _well(_settings: Settings, _services: Services) -> AsyncIterator[SoundAuthenticator]:
    yield SoundAuthenticator()


ROWS = [
    _opened_by(
        _plain,
        "open is a plain coroutine",
        Contract(
            test=_OPENS, says="its open is a plain coroutine; mark it with @asynccontextmanager and `yield` the port"
        ),
        AtStart(says="its open is a plain coroutine; mark it with @asynccontextmanager and `yield` the port"),
    ),
    _opened_by(
        _undecorated,
        "open is not decorated",
        Contract(test=_OPENS, says="its open is not marked with @asynccontextmanager"),
        AtStart(says="its open is not marked with @asynccontextmanager"),
    ),
    _opened_by(
        _a_class,
        "open yields the class",
        Contract(test=_OPENS, says="opened the class SoundAuthenticator instead of an instance"),
        AtStart(says="opened the class SoundAuthenticator instead of an instance; yield SoundAuthenticator("),
    ),
    _opened_by(
        _something_else,
        "open yields something else",
        Contract(test=_OPENS, says="opened a dict, which is not a Authenticator; yield an instance of a subclass of"),
        AtStart(says="opened a dict, which is not a Authenticator; yield an instance of a subclass of"),
    ),
    _opened_by(
        _exits,
        "open calls sys.exit()",
        Contract(test=_OPENS, says="SystemExit"),
        AtStart(says="failed to start: SystemExit: 3"),
    ),
    Careless(
        mistake="authenticate is not async",
        port=_Sync,
        contract=Contract(test=_OPENS, says="_Sync.authenticate that is no coroutine; write `async def authenticate`"),
        server=AtStart(says="_Sync.authenticate that is no coroutine; write `async def authenticate`"),
    ),
    _opened_by(
        _swallows,
        "open swallows the failures of others",
        Contract(
            test="test_a_failure_elsewhere_gets_through_and_it_can_be_opened_again",
            says="a failure in the server was swallowed: use `finally` around the `yield`, not `except`",
        ),
        Unseen(because="a plugin is closed without being told of failures"),
    ),
    _opened_by(
        _OnceOnly,
        "it cannot be closed twice",
        Contract(test=_CLOSES, says="closed a second time it raised IndexError in line"),
        Unseen(because="the server closes once"),
    ),
    _opened_by(
        _breaks_at_its_end,
        "closing it raises",
        Contract(test=_CLOSES, says="closed the first time it raised ConnectionResetError in line"),
        Unseen(because=NO_HARM),
    ),
    _opened_by(
        _leaves_a_task,
        "it leaves a task running",
        Contract(test=_CLOSES, says="tasks go on after closing: _leaves_a_task.<locals>.poll; cancel and await them"),
        Unseen(because="the task ends with the process"),
    ),
    _opened_by(
        _writes_when_dry,
        "it writes in a dry run",
        Contract(
            test="test_a_dry_run_changes_no_file", says="careless.cache: write nothing where services.dry_run is true"
        ),
        Unseen(because="which files are a plugin's own, the server does not know"),
    ),
    _with(
        _ShowsItsPassword,
        "its settings show the password",
        Contract(
            test="test_its_settings_show_no_secret",
            says="a secret is in repr of the settings: keep it out, with",
            secrets=[HIDDEN],
        ),
    ),
    _with(
        _Undescribed,
        "a setting has no description",
        Contract(test=_SETTINGS, says="limit has no description: Field(description="),
    ),
    _with(
        _Typeless,
        "a setting takes anything",
        Contract(test=_SETTINGS, says="limit takes anything: give it a type"),
    ),
    _with(
        _Crashes,
        "a validator crashes",
        Contract(test=_SETTINGS, says="a validator raises ValueError, which becomes the line that the operator reads"),
    ),
    Careless(
        mistake="its repr shows the password",
        port=_ShowsItself,
        contract=Contract(
            test="test_no_secret_is_shown", says="a secret is in repr of the port: keep it out, with", secrets=[HIDDEN]
        ),
        server=Unseen(because="no server prints a port"),
    ),
    Careless(
        mistake="its errors show the password",
        port=_TellsItAll,
        contract=Contract(test="test_a_good_offer_gets_a_well_formed_identity", says="raised ValueError in line"),
        server=AtRequest(status=500, logs="_TellsItAll.authenticate raised ValueError in line"),
    ),
]


def opened_and_closed(make: Callable[[], SoundSink]) -> Any:
    """The ``open`` of a sink that says no when it is closed."""

    @asynccontextmanager
    async def open_it(_settings: Settings, _services: Services) -> AsyncIterator[SoundSink]:
        sink = make()
        try:
            yield sink
        finally:
            sink.is_open = False

    return open_it
