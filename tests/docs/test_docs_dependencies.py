"""Every dependency has its reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.docs.blocks import ROOT, read


def test_the_page_has_one_line_for_each_dependency_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]["postgresql"]  # that of testing is among what we test with
    declared = [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]
    names = [name_in(line) for line in declared]
    of_plugins = {name_in(line) for file in ROOT.glob("plugins/*/pyproject.toml") for line in dependencies_in(file)}
    names += sorted(of_plugins - {"kipuka", *names})
    rows = re.findall(r"^\| `([\w-]+)` \| \S", read("docs/dependencies.md"), re.MULTILINE)
    assert sorted(rows) == sorted(names)


def name_in(requirement: str) -> str:
    return re.split(r"[\[<>=~; ]", requirement, maxsplit=1)[0]


def dependencies_in(file: Path) -> list[str]:
    found: list[str] = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"]
    return found
