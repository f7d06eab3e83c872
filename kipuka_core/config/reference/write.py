"""Writing the reference to files."""

from __future__ import annotations

from pathlib import Path

from kipuka_core.config.reference.page import render_page
from kipuka_core.config.reference.schema import render_schema
from kipuka_core.config.reference.walk import PluginModels

PAGE_NAME = "configuration.md"
SCHEMA_NAME = "configuration.schema.json"


def write_reference(directory: Path, plugin_settings: PluginModels | None = None) -> None:
    """Write the page and the JSON schema into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PAGE_NAME).write_text(render_page(plugin_settings), encoding="utf-8")
    (directory / SCHEMA_NAME).write_text(render_schema(plugin_settings), encoding="utf-8")
