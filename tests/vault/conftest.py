"""The stand-in for Vault, and settings for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vault.vault_stand_in import Vault, running_vault, settings_for


@pytest.fixture
def vault() -> Iterator[Vault]:
    with running_vault() as running:
        yield running


@pytest.fixture
def settings(vault: Vault, tmp_path: Path) -> dict[str, Any]:
    return settings_for(vault, tmp_path)
