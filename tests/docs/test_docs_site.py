"""The site that ``make docs`` makes: whole, without a warning, every link leads somewhere, nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.pictures import PICTURES, draw, layers, plugins
from tests.docs.blocks import ROOT, pages, read

LOADED = {
    ("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "srcset"), ("video", "src"),
    ("audio", "src"), ("embed", "src"), ("object", "data"), ("use", "href"), ("image", "href"), ("form", "action"),
}  # fmt: skip
"""Where a browser goes by itself, or sends what is typed."""
FROM_ELSEWHERE = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?//|\bimport\s*\(\s*["']https?:""")


@dataclass(slots=True)
class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    without_text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        for name, value in values.items():
            if (tag, name) in LOADED:
                self.loads.append(value)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img" and not values.get("alt"):
            self.without_text.append(values.get("src", ""))


@cache
def parsed(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it."""
    directory = tmp_path_factory.mktemp("site")
    (line,) = (line for line in read("Makefile").splitlines() if "sphinx-build" in line)
    command = line.strip().replace("$(BIN)/sphinx-build", f"{sys.executable} -m sphinx")
    words = command.replace("build/docs", str(directory / "html")).replace(
        "build/doctrees", str(directory / "doctrees")
    )
    assert "-W" in words.split()
    done = subprocess.run(words.split(), cwd=ROOT, capture_output=True, check=False, text=True, timeout=300)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return directory / "html"


def html_files(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


@pytest.mark.long
def test_every_page_is_there_and_the_site_begins_with_the_index(site: Path) -> None:
    for page in pages():
        assert (site / page).with_suffix(".html").exists()
    assert "docs/index.html" in parsed(site / "index.html").links


@pytest.mark.long
def test_every_link_of_every_page_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    missing = [problem for file in html_files(site) for problem in broken_links(site, file)]
    assert missing == []


def broken_links(site: Path, file: Path) -> Iterator[str]:
    page = parsed(file)
    for link in [*page.links, *page.loads]:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if not target.is_file() or not target.is_relative_to(site.resolve()):
            yield f"{file.relative_to(site)}: {link} is not there"
        elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).anchors:
            yield f"{file.relative_to(site)}: {link} has no such place"


@pytest.mark.long
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for file in html_files(site):
        elsewhere = [each for each in parsed(file).loads if urlsplit(each).netloc or urlsplit(each).scheme]
        assert elsewhere == [], f"{file} loads from elsewhere"
    for file in [*site.rglob("*.css"), *site.rglob("*.svg"), *site.rglob("*.js"), *html_files(site)]:
        assert FROM_ELSEWHERE.search(file.read_text(encoding="utf-8")) is None, file


@pytest.mark.long
def test_links_to_other_hosts_are_https_addresses(site: Path) -> None:
    links = {link for file in html_files(site) for link in parsed(file).links if urlsplit(link).scheme}
    assert "https://keepachangelog.com/en/1.1.0/" in links
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link


@pytest.mark.long
def test_every_picture_is_told_in_words(site: Path) -> None:
    assert [(str(file), parsed(file).without_text) for file in html_files(site) if parsed(file).without_text] == []


@pytest.mark.long
def test_every_section_of_the_index_is_one_of_the_side_bar(site: Path) -> None:
    text = (site / "docs/getting-started.html").read_text(encoding="utf-8")
    captions = re.findall(r'<span class="caption-text">([^<]+)</span>', text)
    assert captions == re.findall(r"^## (.+)$", read("docs/index.md"), re.MULTILINE)


# -- pictures ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_the_code_says(name: str, tmp_path: Path) -> None:
    draw(tmp_path)
    assert (ROOT / "docs" / "images" / name).read_bytes() == (tmp_path / name).read_bytes(), "run make docs"


def test_the_picture_of_the_rooms_has_all_of_them() -> None:
    text = read("docs/images/rooms.svg")
    for room in (room for layer in layers() for room in layer):
        assert f">{room.removeprefix('kipuka_core.')}</text>" in text
    for package in plugins():
        assert package in text
