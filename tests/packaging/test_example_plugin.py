"""The example of a third-party plugin: its module, its own tests, and the story of its README."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

from tests.interop.programs import run
from tests.packaging.example import EXAMPLE, check_the_story
from tests.startup.distributions import Distribution

_MODULE = EXAMPLE / "kipuka_serial_allowlist.py"


def test_it_is_one_short_module_on_the_face_of_kipuka_alone() -> None:
    source = _MODULE.read_text(encoding="utf-8")

    assert len(source.splitlines()) < 60
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert {module for module in imported if module and module.startswith("kipuka")} == {"kipuka_core"}


def test_its_own_tests_pass(tmp_path: Path) -> None:
    copy = tmp_path / "example"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))

    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=copy)


def test_it_does_what_its_readme_says(tmp_path: Path) -> None:
    Distribution(
        "kipuka-serial-allowlist", "serial-allowlist", _MODULE.stem, _MODULE.read_text(encoding="utf-8")
    ).install(tmp_path / "site")
    (tmp_path / "deployment").mkdir()

    check_the_story(sys.executable, tmp_path / "deployment", PYTHONPATH=str(tmp_path / "site"))
