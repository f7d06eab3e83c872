"""What the suites of all ports share: how the port is opened and closed, its settings, its secrets."""
# ruff: noqa: S101 - a contract suite is made of assertions

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from kipuka_core.domain.guard import raised
from kipuka_core.domain.port import Port
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.lifecycle import naming_the_key
from kipuka_core.hooks.provider import Provider, Services
from kipuka_core.hooks.soundness import opening_problem, port_problem, provider_problem
from kipuka_core.testing.contracts.asking import PATIENCE_SECONDS, asked, check_nothing_shows
from kipuka_core.testing.contracts.file_changes import changes_heard_of
from kipuka_core.testing.contracts.settings import check_settings
from kipuka_core.testing.services import make_services

OpenPort = Callable[[], AbstractAsyncContextManager[Any]]
_TURNS = 100


class _Elsewhere(Exception):
    """Something else in the server fails while the port is open."""


class PortContract:
    """Subclass with ``provider``, and override the fixtures ``settings`` and ``services`` as the plugin needs."""

    provider: ClassVar[Provider[Any]]
    port_type: ClassVar[type] = Port
    """The abstract base of the port; each suite has its own."""
    patience_seconds: ClassVar[float] = PATIENCE_SECONDS
    """How long the suite waits for an answer before it says that there is none."""

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """The plugin's table."""
        return {}

    @pytest.fixture
    def wrong_settings(self) -> Mapping[str, Any]:
        """For each key that can be wrong, a value with which the plugin must not start: ``{"file": "missing.txt"}``."""
        return {}

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        """What the plugin is opened with."""
        return make_services(tmp_path)

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        """Passwords, tokens and PINs, of the settings too: never to be seen in a log, an error or a repr."""
        return ()

    @pytest.fixture
    def open_port(self, settings: Mapping[str, Any], services: Services) -> OpenPort:
        """Opens the port; suites open it several times, also at once."""
        return lambda: self._opening(settings, services)

    async def test_its_provider_is_one_that_the_core_takes(self) -> None:
        """Else the start stops at it."""
        problem = provider_problem(self.provider)
        assert problem is None, f"the provider is {problem}"

    async def test_its_settings_refuse_unknown_keys_and_explain_known_ones(self, settings: Mapping[str, Any]) -> None:
        """A typo in ``kipuka.toml`` is an error, and the reference page has a line for every key."""
        check_settings(self.provider.settings, settings)

    async def test_its_settings_show_no_secret(self, settings: Mapping[str, Any], secrets: Sequence[str]) -> None:
        """Settings are printed in errors and while debugging."""
        model = self.provider.settings(**settings)
        check_nothing_shows(
            secrets,
            repr_of_the_settings=f"{model!r} {model}",
            model_dump_of_the_settings=f"{model.model_dump()!r} {model.model_dump(mode='json')!r}",
        )

    async def test_wrong_settings_are_an_error_of_one_line_that_names_the_key(
        self, settings: Mapping[str, Any], services: Services, wrong_settings: Mapping[str, Any]
    ) -> None:
        """It is shown at start-up, to the person who has to change something. Nothing is left open."""
        for key, value in wrong_settings.items():
            before = asyncio.all_tasks()
            try:
                line = await self._refused({**settings, key: value}, services)
            except ValidationError as error:
                line = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
            assert line, f"{key} = {value!r} was accepted: raise ConfigurationError while opening, or refuse the value"
            assert len(line.splitlines()) == 1, f"the error for {key} is not one line: {line!r}"
            assert key in line, f"the error for {key} = {value!r} does not say {key}, nor name the file that it names"
            await _check_tasks(before)

    async def test_it_opens_a_port_with_coroutine_methods(self, open_port: OpenPort) -> None:
        """A method that answers without being awaited cannot be asked, and blocks the event loop."""
        async with open_port() as port:
            problem = port_problem(port, self.port_type)
            assert problem is None, f"the provider {self.provider.name!r} {problem}"
            await asked(port.ping, expect=type(None), patience_seconds=self.patience_seconds)

    async def test_a_failure_elsewhere_gets_through_and_it_can_be_opened_again(self, open_port: OpenPort) -> None:
        """Closing is not told what happens, and must not hide it: no ``except`` around the ``yield``."""
        try:
            async with open_port():
                raise _Elsewhere  # noqa: TRY301  # it is about what happens to it on its way
        except _Elsewhere:
            pass
        except Exception as error:
            raise AssertionError(f"while closing it {raised(error, self.provider.open)}: use `finally`") from error
        else:
            pytest.fail("a failure in the server was swallowed: use `finally` around the `yield`, not `except`")
        async with open_port():
            pass

    async def test_closing_ends_what_it_began_and_twice_does_no_harm(self, open_port: OpenPort) -> None:
        """A reload and a server that stops wait for nobody's tasks."""
        before = asyncio.all_tasks()
        opening = open_port()
        await opening.__aenter__()
        for which in ("the first time", "a second time"):
            try:
                await opening.__aexit__(None, None, None)
            except Exception as error:
                raise AssertionError(f"closed {which} it {raised(error, self.provider.open)}: {error}") from error
        await _check_tasks(before)

    async def test_a_dry_run_changes_no_file(self, settings: Mapping[str, Any], services: Services) -> None:
        """``kipuka check`` opens every plugin beside the running server: with ``services.dry_run`` it only looks."""
        with changes_heard_of(services.base_dir, services.state_dir) as changed:
            async with self._opening(settings, replace(services, dry_run=True)) as port:
                await port.ping()
        assert not changed, f"a dry run changed {', '.join(changed)}: write nothing where services.dry_run is true"

    def _opening(self, settings: Mapping[str, Any], services: Services) -> AbstractAsyncContextManager[Any]:
        opening: Any = self.provider.open(self.provider.settings(**settings), services)
        problem = opening_problem(opening)
        assert problem is None, f"the provider {self.provider.name!r} cannot be opened: {problem}"
        return opening  # type: ignore[no-any-return]  # that is what was looked at

    @property
    def _package(self) -> str:
        return str(getattr(self.provider.open, "__module__", "")).partition(".")[0]

    async def _refused(self, settings: Mapping[str, Any], services: Services) -> str:
        """The line at which the start would stop, with the key that the core makes of a file; empty where it opens."""
        model = self.provider.settings(**settings)
        try:
            async with self._opening(settings, services):
                return ""
        except ConfigurationError as error:
            return str(naming_the_key(error, dict(model), "table", base_dir=services.base_dir))
        except Exception as error:
            raise AssertionError(
                f"opening {raised(error, self.provider.open)}: {error}; raise ConfigurationError(key or file, problem)"
            ) from error


async def _check_tasks(before: set[asyncio.Task[Any]]) -> None:
    for _ in range(_TURNS):
        left = asyncio.all_tasks() - before
        if not left:
            return
        await asyncio.sleep(0)
    names = ", ".join(sorted(getattr(task.get_coro(), "__qualname__", str(task)) for task in left))
    pytest.fail(f"tasks go on after closing: {names}; cancel and await them in `finally`, or open an asyncio.TaskGroup")
