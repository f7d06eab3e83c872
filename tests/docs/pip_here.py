"""What ``pip install --editable .`` does for a project's plugins: they are found in its directory."""

from __future__ import annotations

import tomllib
from pathlib import Path


def install(directory: Path) -> list[str]:
    """Write the metadata that pip writes beside the modules; the names of the plugins."""
    about = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plugins: dict[str, str] = about["entry-points"]["kipuka.plugins"]
    metadata = directory / f"{about['name'].replace('-', '_')}-1.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n", encoding="utf-8"
    )
    lines = [f"{name} = {module}\n" for name, module in plugins.items()]
    (metadata / "entry_points.txt").write_text("".join(["[kipuka.plugins]\n", *lines]), encoding="utf-8")
    return [*plugins]


if __name__ == "__main__":
    install(Path.cwd())
