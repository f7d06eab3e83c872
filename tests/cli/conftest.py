"""What the tests of ``kipuka plugins`` share; a module with another deployment has a fixture of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kipuka_core.testing.server import Deployment, make_deployment


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return make_deployment(tmp_path_factory.mktemp("deployment"))


@pytest.fixture
def deployment(made: Deployment) -> Deployment:
    made.configure("")
    return made


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Where distributions are installed."""
    return tmp_path / "site"
