"""Every dependency has its reason."""

from __future__ import annotations

import re
import tomllib

from tests.docs.blocks import ROOT, read


def test_the_page_has_one_line_for_each_dependency_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    declared = [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]
    names = [re.split(r"[\[<>=~; ]", line, maxsplit=1)[0] for line in declared]
    rows = re.findall(r"^\| `([\w-]+)` \| \S", read("docs/dependencies.md"), re.MULTILINE)
    assert sorted(rows) == sorted(names)
