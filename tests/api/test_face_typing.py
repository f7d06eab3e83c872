"""A plugin that uses only the face is checked by mypy --strict, and mypy finds what is careless in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kipuka_core.hooks.manager import _PROVIDER_HOOKS
from tests.api.face_only import every_port

FACE_ONLY = Path(__file__).parent / "face_only"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of both modules, in a directory where nothing of this repository is configured."""
    directory = tmp_path_factory.mktemp("plugin")
    for name in ("every_port.py", "mistakes.py"):
        source = FACE_ONLY / name if name == "every_port.py" else FACE_ONLY / f"{name}.txt"
        (directory / name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", "cache", "."]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False).stdout.splitlines()


def test_a_plugin_for_every_port_passes(found: list[str]) -> None:
    assert [line for line in found if not line.startswith("mistakes.py")] == []


def test_every_mistake_is_found(found: list[str]) -> None:
    lines = (FACE_ONLY / "mistakes.py.txt").read_text(encoding="utf-8").splitlines()
    made = {(number, match[1]) for number, line in enumerate(lines, 1) if (match := re.search(r"# ([\w-]+)$", line))}
    said = [re.match(r"mistakes\.py:(\d+): error: .*\[([\w-]+)\]$", line) for line in found]
    assert made == {(int(match[1]), match[2]) for match in said if match}
    assert len(made) == 6


def test_the_plugin_for_every_port_has_every_port_and_imports_the_face_alone() -> None:
    assert all(hasattr(every_port, hook) for hook in _PROVIDER_HOOKS)
    source = (FACE_ONLY / "every_port.py").read_text(encoding="utf-8")
    assert set(re.findall(r"(?:from|import) (kipuka[\w.]*)", source)) == {"kipuka_core"}
