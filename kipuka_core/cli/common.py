"""What several commands need: the configuration option, an event loop, the store, a table on the terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from kipuka_core.commands import config_option as config_option  # noqa: PLC0414  # commands take it from here
from kipuka_core.config import Config, load
from kipuka_core.edges import log
from kipuka_core.edges.store import SqlStore, open_store

ResultT = TypeVar("ResultT")


def read_config(path: Path | None) -> Config:
    """The configuration, or the error that says what to change."""
    return load(path, os.environ)


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a command's coroutine, with log lines on standard error."""
    log.configure()
    return asyncio.run(main)


def with_store(path: Path | None, work: Callable[[SqlStore], Coroutine[Any, Any, ResultT]]) -> ResultT:
    """Open the configured database, do ``work`` on it, close it."""
    config = read_config(path)

    async def opened() -> ResultT:
        async with open_store(config.database_url) as store:
            return await work(store)

    return run(opened())


def now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)


def moment(value: datetime | None) -> str:
    """A moment as the tables show it."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns, aligned; nothing but the header for no rows."""
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    for row in (header, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
