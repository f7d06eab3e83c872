"""The examples of third-party plugins: their modules, their own tests, and the stories of their READMEs."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

import pytest

from tests.interop.programs import run
from tests.packaging.example import EXAMPLES, ROOT, Example
from tests.startup.distributions import Distribution

pytestmark = pytest.mark.parametrize("example", EXAMPLES, ids=str)


def test_it_is_one_short_module_on_the_face_of_kipuka_alone(example: Example) -> None:
    source = example.module.read_text(encoding="utf-8")

    assert len(source.splitlines()) < example.lines
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert {module for module in imported if module and module.startswith("kipuka")} == {"kipuka_core"}


def test_its_own_tests_pass(example: Example, tmp_path: Path) -> None:
    copy = tmp_path / "example"
    shutil.copytree(example.source, copy, ignore=shutil.ignore_patterns("__pycache__"))

    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=copy)


def test_it_does_what_its_readme_says(example: Example, tmp_path: Path) -> None:
    source = example.module.read_text(encoding="utf-8")
    Distribution(example.name, example.plugin, example.module.stem, source).install(tmp_path / "site")
    (tmp_path / "deployment").mkdir()

    example.check_the_story(sys.executable, tmp_path / "deployment", PYTHONPATH=str(tmp_path / "site"))


def test_no_example_is_left_out(example: Example) -> None:
    with_pyproject = {file.parent.name for file in (ROOT / "examples").glob("*/pyproject.toml")}
    assert example.name in with_pyproject
    assert with_pyproject == {each.name for each in EXAMPLES}
