"""Every block of code in README, docs and examples is run or checked, or says why not."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.config import parse
from tests.docs.blocks import Block, blocks, blocks_of, pages
from tests.docs.walk import Walk
from tests.interop.programs import run

KINDS = {"sh", "python", "toml", "text"}
"""``text`` is what is shown: output, diagrams."""
CONTINUED = dict.fromkeys(("docs/operations.md", "docs/audit.md"), "docs/getting-started.md")
"""Pages whose reader has followed another one before, and whose server still runs."""
SYNTAX: dict[str, Callable[[str], object]] = {
    "sh": lambda text: run("bash", "-n", "-c", text),
    "toml": tomllib.loads,
    "json": json.loads,
    "text": str,
}
"""What holds a block that is not run against the rules of its language."""
MINIMAL = {
    "tls": {"cert": "server.pem", "key": "server.key", "client_auth": {"trust_anchors": "cas.pem"}},
}


@pytest.mark.parametrize("page", pages())
def test_every_block_is_of_a_kind_that_is_run_or_says_why_it_is_not(page: str) -> None:
    for block in blocks_of(page):
        assert block.why_not_run or block.language in KINDS, f"{block}: mark it with <!-- not run: reason -->"


@pytest.mark.parametrize("block", [each for page in pages() for each in blocks_of(page) if each.why_not_run], ids=str)
def test_what_is_not_run_could_be_typed_all_the_same(block: Block) -> None:
    SYNTAX[block.language](block.text)


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_a_command_that_has_to_fail_is_the_last_of_its_block(block: Block) -> None:
    """Anywhere else the shell passes over it when it does not fail."""
    lines = block.text.splitlines()
    assert [line for line in lines[:-1] if line.startswith("! ")] == []


@pytest.mark.parametrize("block", [each for each in blocks("toml") if each.file_name != "pyproject.toml"], ids=str)
def test_every_piece_of_configuration_is_one(block: Block) -> None:
    piece = tomllib.loads(block.text)
    parse(merged(minimal_for(piece), piece), Path("/etc/kipuka/kipuka.toml"))


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("sh", "python")} - set(CONTINUED.values())))
def test_what_a_page_says_can_be_done_as_it_says(page: str, tmp_path: Path) -> None:
    with Walk(tmp_path) as walk:
        if page in CONTINUED:
            walk.follow(CONTINUED[page])
        walk.follow(page)


def minimal_for(piece: dict[str, Any]) -> dict[str, Any]:
    """What a whole configuration needs besides; certificate and key are not for every TLS material."""
    if "material" not in piece.get("tls", {}):
        return MINIMAL
    return {"tls": {"client_auth": MINIMAL["tls"]["client_auth"]}}


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in more.items():
        mine = both.get(key)
        both[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both
