"""``kipuka backup``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO

import click

from kipuka_core.cli.backup.bundle import CONFIGURATION, DATABASE, Source, write_bundle
from kipuka_core.cli.backup.state_files import stage
from kipuka_core.cli.common import config_option, now, read_config, run
from kipuka_core.cli.new_files import refuse_existing
from kipuka_core.config import Config
from kipuka_core.edges.store import open_store
from kipuka_core.edges.store.snapshot import contents_of, copy_database, sqlite_file
from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.model.event import BackupMade

_TERMINAL = "-"


@click.command()
@config_option
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
def backup(config_path: Path | None, file: Path) -> None:
    """Write the deployment and a copy of its database to FILE (.tar.gz); `-` is standard output.

    The server may run meanwhile: what was committed before the copy began is in it, whole. kipuka.toml is in it, the
    files beside it that it names, and the state directory, with all private keys as they lie there: keep it as you keep
    those. Not in it: audit files and archived records, which are only ever added to; files elsewhere that kipuka.toml
    names; a PostgreSQL database (pg_dump).
    """
    config = read_config(config_path)
    database = sqlite_file(config.database_url)
    if database is None:
        raise KipukaError("the database is PostgreSQL: back it up with pg_dump, and the state directory as files")
    if not database.exists():
        raise ConfigurationError(str(database), "does not exist yet: there is nothing to back up")
    if str(file) != _TERMINAL:
        refuse_existing(file)
    made_at = now()
    run(_record(config, file))
    with _staging(file) as staging:
        names = _stage(config, database, staging)
        contents = contents_of(staging / DATABASE)
        about = {
            "kipuka": version("kipuka"),
            "made_at": made_at.isoformat(),
            "schema": contents.schema,
            "counts": contents.counts,
            "newest": contents.newest,
        }
        with _target(file) as target:
            count = write_bundle(target, [Source(name, staging / name) for name in names], about)
    counts = ", ".join(f"{number} {name}" for name, number in contents.counts.items())
    click.echo(f"{file}: {count} files; {counts}. It holds private keys.", err=str(file) == _TERMINAL)


def _stage(config: Config, database: Path, staging: Path) -> Sequence[str]:
    """Files before the database: whatever they mention is on record in the copy."""
    names = stage(config, database, staging)
    shutil.copy2(config.path, staging / CONFIGURATION)
    copy_database(database, staging / DATABASE)
    return [CONFIGURATION, DATABASE, *names]


async def _record(config: Config, file: Path) -> None:
    async with open_store(config.database_url) as store:
        await store.add_event(BackupMade(time=now(), actor="command line", file=str(file)))


@contextmanager
def _staging(file: Path) -> Iterator[Path]:
    """Beside the target, where there has to be room anyway; for standard output in the usual place."""
    parent = None if str(file) == _TERMINAL else file.absolute().parent
    try:
        with tempfile.TemporaryDirectory(prefix=".kipuka-backup-", dir=parent) as name:
            yield Path(name)
    except OSError as error:
        raise KipukaError(f"{file}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _target(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == _TERMINAL:
        if sys.stdout.isatty():
            raise KipukaError("a backup is no text for a terminal: name a file, or pipe it on")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = file.with_name(f".{file.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        os.link(partial, file)  # never over a file that came meanwhile
    finally:
        partial.unlink(missing_ok=True)
