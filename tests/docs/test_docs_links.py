"""Links between pages lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT, pages, read, without_blocks

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(markdown: str) -> set[str]:
    """The anchors of a page's headings: lower case, words joined by hyphens, other signs dropped."""
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in _HEADING.findall(markdown))
    return {heading.replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages())
def test_every_link_to_a_page_and_to_a_heading_leads_there(page: str) -> None:
    for link in _LINK.findall(without_blocks(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), f"{page} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page}: no heading for {link}"


def test_every_page_can_be_reached_from_the_index() -> None:
    links = set(_LINK.findall(read("docs/index.md")))
    written = {page.removeprefix("docs/") for page in pages() if page.startswith("docs/")}
    assert written - links == {"index.md"}
    assert "docs/index.md" in _LINK.findall(read("README.md"))


@pytest.mark.parametrize("page", pages())
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    for path in re.findall(r"\btests/[\w./*-]+[\w*]", without_blocks(page)):
        here = (ROOT / page).parent
        assert [*ROOT.glob(path), *here.glob(path)], f"{page} names {path}, which is not there"
