"""The files of a new plugin, made of templates (:class:`string.Template`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from string import Template

from kipuka_core.cli.plugin_new.kinds import Kind
from kipuka_core.cli.plugin_new.names import PluginName
from kipuka_core.hooks.spec import API_VERSION

_COMMON = "common"
_README_PARTS = {
    "about": "about.md",
    "prepare": "prepare.sh",
    "toml": "kipuka.toml",
    "change": "change.md",
}
"""What the frame of README.md has a place for, and each kind's template for it."""


def render(name: PluginName, kind: Kind) -> dict[str, str]:
    """The text of every file by its path in the distribution's directory."""
    words = {
        "name": name.name,
        "distribution": name.distribution,
        "package": name.package,
        "Class": name.class_prefix,
        "summary": kind.summary,
        "kipuka_version": version("kipuka"),
        "api_version": str(API_VERSION),
    }
    parts = {part: _fill(kind.word, template, words).strip("\n") for part, template in _README_PARTS.items()}
    parts["prepare"] = f"\n```sh\n{parts['prepare']}\n```\n" if parts["prepare"] else ""
    return {
        "pyproject.toml": _fill(_COMMON, "pyproject.toml", words),
        "README.md": _fill(_COMMON, "README.md", words | parts),
        ".gitignore": _fill(_COMMON, "gitignore", words),
        ".github/workflows/test.yml": _fill(_COMMON, "workflow.yml", words),
        f"{name.package}/__init__.py": _fill(kind.word, "module.py", words),
        f"{name.package}/py.typed": "",
        "tests/conftest.py": _fill(_COMMON, "conftest.py", words),
        f"tests/test_{name.name.replace('-', '_')}.py": _fill(kind.word, "unit_tests.py", words),
        "tests/test_server.py": _fill(kind.word, "server_tests.py", words),
    }


def _fill(directory: str, template: str, words: Mapping[str, str]) -> str:
    """A template with its words; one that a kind does not have is empty."""
    file = files(__package__) / "templates" / directory / f"{template}.tmpl"
    return Template(file.read_text(encoding="utf-8")).substitute(words) if file.is_file() else ""
