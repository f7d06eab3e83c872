"""Installed distributions for tests: a module and a ``*.dist-info`` in a directory of the import path."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution with one entry point of the group ``kipuka.plugins``."""

    name: str
    plugin: str
    module: str
    source: str

    def install(self, directory: Path) -> None:
        """Put it where ``importlib.metadata`` finds it once the directory is on the path."""
        info = directory / f"{self.name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[kipuka.plugins]\n{self.plugin} = {self.module}\n", encoding="utf-8")
        (directory / f"{self.module}.py").write_text(textwrap.dedent(self.source), encoding="utf-8")


@contextmanager
def importable(directory: Path) -> Iterator[None]:
    """The directory on this process's import path; what was imported from it is forgotten again."""
    with patch.object(sys, "path", [str(directory), *sys.path]):
        yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{directory}/"):
            del sys.modules[name]
