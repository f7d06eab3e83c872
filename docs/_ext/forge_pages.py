"""What pages that are written for a forge need in Sphinx.

* The lists of links in ``docs/index.md`` are the table of contents: each section becomes a toctree with its name.
* A link to a file that is no page (a configuration, a script, a unit) leads to a page that shows the file, and that
  has a link to the file itself.
* Paths and names in the cells of tables may be broken, so that tables fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_LINK_TO_PAGE = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s#:]+)\.md\)")
_SHOWN = "shown_files"
_LONG = 24
_SEPARATED = re.compile(r"[^/|]+[/|]*|[/|]+")
_LEXERS = {".cnf": "ini", ".json": "json", ".py": "python", ".service": "ini", ".toml": "toml", ".yml": "yaml"}
_OF_SCRIPTS = "bash"
"""Of files without a suffix."""


def contents(markdown: str) -> str:
    """``docs/index.md`` with a toctree at the end of each section, of the pages that it is the first to link."""
    listed: set[str] = set()
    text, *parts = _SECTION.split(markdown)
    for caption, section in zip(parts[::2], parts[1::2], strict=True):
        entries = [each for each in dict.fromkeys(_LINK_TO_PAGE.findall(section)) if each not in listed]
        listed.update(entries)
        toctree = ["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```"]
        text += "\n".join([f"## {caption}{section.rstrip()}", "", *toctree, "", ""])
    return text


class LinksToFiles(SphinxTransform):
    """Turns what would be downloads into links to pages about the files."""

    default_priority = 500

    def apply(self, **_options: Any) -> None:
        """See the base class."""
        here = self.app.builder.get_target_uri(self.env.docname)
        for node in list(self.document.findall(addnodes.download_reference)):
            file, _ = self.env.relfn2path(node["reftarget"], self.env.docname)
            uri = relative_uri(here, self.app.builder.get_target_uri(file))
            node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))
            self.env.metadata[self.env.docname].setdefault(_SHOWN, []).append(file)
            self.env.note_dependency(file)


class BreaksInCells(SphinxTransform):
    """Lets a browser break long code in a cell of a table behind its separators, without a character of its own."""

    default_priority = 500

    def apply(self, **_options: Any) -> None:
        """See the base class."""
        for cell in self.document.findall(nodes.entry):
            for literal in list(cell.findall(nodes.literal)):
                if len(literal.astext()) > _LONG:
                    literal.children = list(_with_breaks(literal.astext()))
                    for child in literal.children:
                        literal.setup_child(child)


def _with_breaks(text: str) -> Iterator[nodes.Node]:
    for piece in _SEPARATED.findall(text):
        yield nodes.Text(piece)
        yield nodes.raw("", "<wbr>", format="html")


def pages_of_files(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for every file that is linked somewhere."""
    if not isinstance(app.builder, StandaloneHTMLBuilder):
        return
    for file in _shown(app):
        path = Path(app.srcdir, file)
        language = _LEXERS.get(path.suffix, "text") if path.suffix else _OF_SCRIPTS
        shown = app.builder.highlighter.highlight_block(path.read_text(encoding="utf-8"), language)
        itself = f'<p><code>{escape(file)}</code>, <a href="{escape(path.name)}" download>the file itself</a></p>'
        body = f"<section><h1>{escape(path.name)}</h1>{itself}{shown}</section>"
        yield file, {"title": path.name, "body": body}, "page.html"


def _shown(app: Sphinx) -> list[str]:
    return sorted({file for metadata in app.env.metadata.values() for file in metadata.get(_SHOWN, ())})


def _copy_files(app: Sphinx, error: Exception | None) -> None:
    if error is None and isinstance(app.builder, StandaloneHTMLBuilder):
        for file in _shown(app):
            target = Path(app.outdir, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(app.srcdir, file).read_bytes())


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == app.config.root_doc:
        source[0] = contents(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_transform(LinksToFiles)
    app.add_transform(BreaksInCells)
    app.connect("source-read", _read)
    app.connect("html-collect-pages", pages_of_files)
    app.connect("build-finished", _copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
