"""Writing the reference to files."""

from __future__ import annotations

from pathlib import Path

from kipuka_core.config.reference.builtin import documented_settings
from kipuka_core.config.reference.page import render_page
from kipuka_core.config.reference.schema import render_schema

PAGE_NAME = "configuration.md"
SCHEMA_NAME = "configuration.schema.json"


def write_reference(directory: Path) -> None:
    """Write the page and the JSON schema into a directory, with the settings of the plugins that are developed here."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = documented_settings()
    (directory / PAGE_NAME).write_text(render_page(settings), encoding="utf-8")
    (directory / SCHEMA_NAME).write_text(render_schema(settings), encoding="utf-8")
