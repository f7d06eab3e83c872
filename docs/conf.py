"""How Sphinx makes the site of these pages: ``make docs``, into ``build/docs``.

The source directory is the root of the project, so that README, CHANGELOG and the pages of the examples are pages of
the site, and a relative link leads to the same place here as on a forge.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

_DOCS = Path(__file__).parent
sys.path.insert(0, str(_DOCS / "_ext"))

project = "kipuka"
author = "the authors of kipuka"
project_copyright = "the authors of kipuka, Apache License 2.0"
release = tomllib.loads((_DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
version = release

extensions = ["myst_parser", "forge_pages"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "examples/**/README.md"]
# Sphinx walks through whatever is not excluded.
exclude_patterns = [".*", "build", "dist", "kipuka_core", "plugins", "tests", "kipuka-dev", "**/.*", "**/__pycache__"]

source_suffix = {".md": "markdown"}
myst_heading_anchors = 6  # as a forge has them: lower case, joined by hyphens
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # generated pages go from a page's title to a port's method, two levels down

html_theme = "furo"
html_title = f"kipuka {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]  # index.html of the site's directory leads to the first page
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_permalinks_icon = "#"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
highlight_language = "text"
smartquotes = False  # two hyphens before an option are two hyphens
nitpicky = True
