"""A plugin that opens slowly is waited for, and named while the start waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from kipuka_core import Policy, Provider, Services, Settings
from kipuka_core.hooks import lifecycle
from kipuka_core.testing.services import make_services


class _Sleeper(Policy):
    """Decides nothing."""


class _Told(logging.Handler):
    """Somebody who reads the log."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.told.set()


async def test_it_is_named_while_the_start_waits_and_no_more_when_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = _Told()
    monkeypatch.setattr(lifecycle.log, "handlers", [reader])

    @asynccontextmanager
    async def opens_once_somebody_was_told(settings: Settings, services: Services) -> AsyncIterator[Policy]:
        await reader.told.wait()
        yield _Sleeper()

    provider: Provider[Policy] = Provider("sleeper", Settings, opens_once_somebody_was_told)
    services = make_services(tmp_path, call_timeout_seconds=0.001)
    async with AsyncExitStack() as stack:
        opened = await lifecycle.open_port(
            provider, Settings(), services, port=Policy, where="policy.sleeper", stack=stack
        )

    assert isinstance(opened, _Sleeper)
    assert reader.lines == [
        "policy.sleeper: plugin 'sleeper' is still being opened after 0.001 s; the start waits for it"
    ]
