"""``python -m tests.docs.look [DIRECTORY]``: pictures of every page of the site, for a person to look at.

Of the site that ``make docs`` has made: wide and narrow in light, the wide ones in dark too. Where something is wider
than a narrow screen, that is said.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from tests.docs.blocks import ROOT

_LOOKS: tuple[tuple[str, Literal["light", "dark"], int], ...] = (
    ("wide", "light", 1440),
    ("narrow", "light", 390),
    ("dark", "dark", 1440),
)
_LONGEST_PIXELS = 16_000
"""What Chromium draws in one piece."""


def look(site: Path, directory: Path) -> None:
    """A picture of each page in each of the looks."""
    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for page in sorted(each for each in site.rglob("*.html") if each.parent != site or each.stem != "index"):
            for name, scheme, width in _LOOKS:
                _shoot(browser, page, directory / f"{_file_name(site, page)}-{name}.png", scheme, width)


def _shoot(browser: Browser, file: Path, picture: Path, scheme: Literal["light", "dark"], width: int) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    page.goto(file.as_uri())
    height = min(_height(page), _LONGEST_PIXELS)
    page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        sys.stdout.write(f"{file}: wider than {width}\n")
    page.close()


def _height(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollHeight"))


def _file_name(site: Path, page: Path) -> str:
    return str(page.relative_to(site).with_suffix("")).replace("/", "-")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="kipuka-site-"))
    look(ROOT / "build" / "docs", target)
    sys.stdout.write(f"the pictures are in {target}\n")
