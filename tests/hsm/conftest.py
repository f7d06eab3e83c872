"""SoftHSM, and a module between it and the tests that misbehaves on demand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.hsm.softhsm import LIBRARY, FaultyModule, SoftHsm, build_faulty_module, make_softhsm


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    for program in ("softhsm2-util", "pkcs11-tool", "gcc"):
        if shutil.which(program) is None or not LIBRARY.exists():
            pytest.fail(f"{program} is missing; on Debian, as root: apt-get install softhsm2 opensc gcc")


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token ``kipuka`` without keys."""
    made = make_softhsm(tmp_path / "hsm")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_faulty_module(tmp_path_factory.mktemp("faulty") / "faulty.so")


@pytest.fixture
def faulty(faulty_library: Path, hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> FaultyModule:
    """The misbehaving module before the token."""
    module = FaultyModule(faulty_library, hsm.directory / "orders", hsm.directory / "calls")
    for name, value in module.environment.items():
        monkeypatch.setenv(name, value)
    return module
