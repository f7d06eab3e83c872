"""What is made, for every kind: linted, typed, short, and on the face of kipuka alone."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from kipuka_core.cli.plugin_new.kinds import KINDS
from kipuka_core.cli.plugin_new.names import PluginName
from kipuka_core.cli.plugin_new.render import render
from kipuka_core.hooks.spec import API_VERSION, HOOKS
from tests.plugin_new.made import KIND_WORDS, run

NAMES = ("x", "erp-serials", "a-name-of-thirty-characters-ok")
_MOST_LINES = 62
_LINES_OF_A_CA = 85
"""Building a certificate takes forty of them; who asks a CA elsewhere does not need them."""

every_kind = pytest.mark.parametrize("kind", KIND_WORDS)


def put(directory: Path, name: str, kind: str) -> Path:
    for path, text in render(PluginName(name), KINDS[kind]).items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return directory


def module(kind: str) -> str:
    return render(PluginName("erp-serials"), KINDS[kind])["kipuka_erp_serials/__init__.py"]


@pytest.mark.parametrize("name", NAMES)
@every_kind
def test_ruff_has_nothing_to_say(tmp_path: Path, kind: str, name: str) -> None:
    directory = put(tmp_path, name, kind)
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=directory)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".", cwd=directory)


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@every_kind
def test_mypy_has_nothing_to_say(tmp_path: Path, mypy_cache: Path, kind: str) -> None:
    directory = put(tmp_path, "erp-serials", kind)
    done = run(sys.executable, "-m", "mypy", "--strict", f"--cache-dir={mypy_cache}", cwd=directory)
    assert "no issues found in 4 source files" in done.stdout


@every_kind
def test_the_tools_judge_strictly(tmp_path: Path, mypy_cache: Path, kind: str) -> None:
    """The tests above can fail: the configuration that is made finds what an author forgets."""
    directory = put(tmp_path, "erp-serials", kind)
    file = directory / "kipuka_erp_serials" / "__init__.py"
    file.write_text(file.read_text(encoding="utf-8") + "\n\ndef forgotten(x):\n    return x\n", encoding="utf-8")
    assert "ANN001" in run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=directory, check=False).stdout
    if kind == "policy":  # mypy takes its time, and its configuration is the same for all
        done = run(sys.executable, "-m", "mypy", f"--cache-dir={mypy_cache}", cwd=directory, check=False)
        assert "no-untyped-def" in done.stdout


@every_kind
def test_it_is_short_and_on_the_face_of_kipuka_alone(kind: str) -> None:
    source = module(kind)
    tree = ast.parse(source)
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    faces = {"kipuka_core", "kipuka_core.commands"} if kind == "command" else {"kipuka_core"}
    assert {name for name in imported if name and name.startswith("kipuka")} == faces
    assert lines_of_code(source) <= (_LINES_OF_A_CA if kind == "ca" else _MOST_LINES)
    assert "# CHANGE: " in source


def lines_of_code(source: str) -> int:
    """Lines with more on them than comments and docstrings, imports left out."""
    tree = ast.parse(source)
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for each in tokens if each.type not in nothing for line in range(each.start[0], each.end[0] + 1)}
    for node in ast.walk(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))  # type: ignore[attr-defined]
    return len(lines)


@every_kind
def test_it_speaks_the_hooks_of_this_kipuka(kind: str) -> None:
    source = module(kind)
    assert f"\nkipuka_api_version = {API_VERSION}\n" in source
    assert set(re.findall(r"@hookimpl\ndef (\w+)", source)) & HOOKS.keys()


def test_every_hook_has_a_kind() -> None:
    found = {hook for kind in KIND_WORDS for hook in re.findall(r"@hookimpl\ndef (\w+)", module(kind))}
    assert found == set(HOOKS)


@every_kind
def test_its_distribution_is_complete(kind: str) -> None:
    files = render(PluginName("erp-serials"), KINDS[kind])
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == "kipuka-erp-serials"
    assert project["entry-points"] == {"kipuka.plugins": {"erp-serials": "kipuka_erp_serials"}}
    assert project["dependencies"] == [f"kipuka>={version('kipuka')}"]
    assert f"kipuka[testing]>={version('kipuka')}" in project["optional-dependencies"]["test"]
    assert "license" not in project
    assert not [path for path in files if "LICENSE" in path]
    assert 'python: ["3.11", "3.12", "3.13"]' in files[".github/workflows/test.yml"]
    assert "python-version: ${{ matrix.python }}" in files[".github/workflows/test.yml"]
    for command in ("pip install -e '.[test]'", "ruff check .", "ruff format --check .", "mypy --strict", "pytest"):
        assert f"- run: {command}\n" in files[".github/workflows/test.yml"]
        assert command in files["README.md"]


@every_kind
def test_its_readme_tells_what_to_write_and_where_to_change_what(kind: str) -> None:
    readme = render(PluginName("erp-serials"), KINDS[kind])["README.md"]
    (toml,) = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert tomllib.loads(toml)["plugins"] == {"enable": ["erp-serials"]}
    for heading in ("Install", "Set it up", "Test", "Where to change what"):
        assert f"\n## {heading}\n" in readme
    assert "\n\n\n" not in readme
    for row in readme.partition("|---|---|\n")[2].strip().splitlines()[:3]:
        assert re.fullmatch(r"\|[^|]+\|[^|]+\|", row), row


@every_kind
def test_every_place_is_filled(kind: str) -> None:
    for path, text in render(PluginName("erp-serials"), KINDS[kind]).items():
        left = re.findall(r"\$\w+|\$\{\w+\}", text)
        assert {*left} <= ({"$token"} if path == "README.md" else set()), path
        assert not text or text.endswith("\n")
