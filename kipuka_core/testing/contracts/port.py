"""What the suites for ports without state in their tests share: how the port is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kipuka_core.hooks.provider import Provider, Services
from kipuka_core.testing.services import make_services

PATIENCE_SECONDS = 60
"""How long a suite waits for an answer before it says that there is none."""


class PortContract:
    """Subclass with ``provider``, and override the fixtures ``settings`` and ``services`` as the plugin needs."""

    provider: ClassVar[Provider[Any]]

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """The plugin's table."""
        return {}

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        """What the plugin is opened with."""
        return make_services(tmp_path)

    @pytest.fixture
    def open_port(
        self, settings: Mapping[str, Any], services: Services
    ) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """Opens the port; suites open it several times, also at once."""
        return lambda: self.provider.open(self.provider.settings(**settings), services)
