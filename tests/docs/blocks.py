"""Pages for people, and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"```(\w*)")
_NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->")
_FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    text: str
    why_not_run: str
    """From ``<!-- not run: reason -->`` just above; empty: it is run."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str:
        """The file that the block is, where its first line is a comment with nothing but a name."""
        match = _FILE_NAME.fullmatch(self.text.partition("\n")[0])
        return match[1] if match else ""


def pages() -> list[str]:
    """Every page, relative to the root of the project."""
    files = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    files += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
    return [str(file.relative_to(ROOT)) for file in files]


def read(page: str) -> str:
    """A page's Markdown."""
    return (ROOT / page).read_text(encoding="utf-8")


def without_blocks(page: str) -> str:
    """A page's Markdown with empty blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages that are run or checked, of these languages or of any."""
    found = [block for page in pages() for block in blocks_of(page) if not block.why_not_run]
    return [block for block in found if not languages or block.language in languages]


def blocks_of(page: str) -> Iterator[Block]:
    """Every block of one page, in order."""
    lines = read(page).splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.fullmatch(lines[number])
        if fence is None:
            number += 1
            continue
        end = lines.index("```", number + 1)
        above = next((line for line in reversed(lines[:number]) if line), "")
        mark = _NOT_RUN.fullmatch(above)
        text = "\n".join(lines[number + 1 : end]) + "\n"
        yield Block(page, number + 1, fence[1], text, mark[1] if mark else "")
        number = end + 1
