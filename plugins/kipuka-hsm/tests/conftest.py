"""SoftHSM for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from softhsm import LIBRARY, SoftHsm, make_softhsm


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    if not LIBRARY.exists():
        pytest.fail("SoftHSM is missing; on Debian, as root: apt-get install softhsm2 opensc")


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    made = make_softhsm(tmp_path / "hsm")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made
