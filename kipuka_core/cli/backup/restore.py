"""``kipuka restore``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from kipuka_core.cli.backup.bundle import (
    BESIDE,
    CONFIGURATION,
    DATABASE,
    STATE,
    BundleUnusable,
    Manifest,
    opened_bundle,
    unpack,
)
from kipuka_core.cli.backup.state_files import REPLACED
from kipuka_core.cli.common import config_option, now, read_config
from kipuka_core.cli.new_files import write_new
from kipuka_core.config import Config
from kipuka_core.edges.serving.control import ControlUnavailable, server_process
from kipuka_core.edges.store.schema import HEAD, known_revisions
from kipuka_core.edges.store.snapshot import (
    contents_of,
    finish_restored,
    fold_log_in,
    newer_things,
    sqlite_file,
)
from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.model.event import BackupRestored

_TERMINAL = "-"


@click.command()
@config_option
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--keep-otps", is_flag=True, help="Do not withdraw outstanding one-time passwords: none was used since the backup."
)
def restore(config_path: Path | None, file: Path, keep_otps: bool) -> None:
    """Put back what `kipuka backup` wrote to FILE (`-`: standard input). The server has to be stopped.

    Nothing newer is overwritten: a database that knows of anything that happened after the backup is a refusal. What is
    replaced is kept in a directory beside it. kipuka.toml and the files beside it stay as they are where they are
    there; those that are missing are restored.

    Which one-time passwords were used since the backup is not known, so all outstanding ones are withdrawn.
    """
    with _source(file) as source, opened_bundle(source) as (manifest, archive):
        _check_schema(manifest)
        with tempfile.TemporaryDirectory(prefix="kipuka-restore-") as name:
            unpacked = Path(name)
            unpack(manifest, archive, unpacked)
            config = _configuration(config_path, unpacked / CONFIGURATION)
            target = _Target.of(config)
            target.refuse_running()
            target.refuse_newer(manifest)
            event = BackupRestored(time=now(), actor="command line", made_at=manifest.made_at)
            withdrawn = finish_restored(
                unpacked / DATABASE, event=event, withdraw_passwords=not keep_otps, now=event.time
            )
            _restore_beside(config, unpacked, manifest)
            replaced = target.put(unpacked, manifest)
    click.echo(f"restored the state of {manifest.made_at[:19]}Z: {manifest.counts['certificates']} certificates")
    if withdrawn:
        click.echo(f"{withdrawn} outstanding one-time passwords were withdrawn; make new ones where they are needed")
    if replaced:
        click.echo(f"what was there before is in {replaced}")
    click.echo(
        "What happened after that moment is not in it: certificates issued since then are not on record and cannot be"
        " renewed, revocations since then have to be repeated (the audit files say which)."
    )


@dataclass(frozen=True, slots=True)
class _Target:
    state_dir: Path
    database: Path

    @classmethod
    def of(cls, config: Config) -> _Target:
        database = sqlite_file(config.database_url)
        if database is None:
            raise KipukaError("the configured database is PostgreSQL, and the backup is of SQLite")
        return cls(config.server.state_dir, database)

    def refuse_running(self) -> None:
        try:
            running = server_process(self.state_dir)
        except ControlUnavailable as error:
            raise KipukaError(f"whether a server runs cannot be seen: {error}") from None
        if running is not None:
            raise KipukaError(f"a server runs with {self.state_dir} (process {running[0]}): stop it first")

    def refuse_newer(self, manifest: Manifest) -> None:
        """Raises KipukaError for a database that knows more than the backup does."""
        if not self.database.exists() or not self.database.stat().st_size:
            return
        newer = newer_things(contents_of(self.database), manifest.newest)
        if newer:
            fold_log_in(self.database)  # so that the one file that is moved away is all of it
            raise KipukaError(
                f"{self.database} holds newer data than the backup of {manifest.made_at[:19]}Z ({'; '.join(newer)}):"
                " restoring would forget it. Move that file away to restore all the same"
            )

    def put(self, unpacked: Path, manifest: Manifest) -> Path | None:
        """Move everything into place, the database last; where the files are that were replaced."""
        aside = self.state_dir / f"{REPLACED}{now():%Y%m%dT%H%M%SZ}"
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in manifest.files:
                directory, _, below = name.partition("/")
                if directory == STATE:
                    self._place(unpacked / name, self.state_dir / below, aside / below, manifest.files[name]["mode"])
            if self.database.exists() and self.database.stat().st_size:
                fold_log_in(self.database)
            self._put_log_aside(aside)
            self._place(unpacked / DATABASE, self.database, aside / self.database.name, 0o600)
        except OSError as error:
            raise KipukaError(f"{error.filename or self.state_dir}: cannot be restored: {error.strerror}") from error
        return aside if aside.exists() else None

    def _put_log_aside(self, aside: Path) -> None:
        """What SQLite left beside a database: empty now, or of one that was moved away without it, after a crash."""
        log, index = (self.database.with_name(self.database.name + suffix) for suffix in ("-wal", "-shm"))
        if log.exists() and log.stat().st_size:
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._give_to_owner(aside)
            log.rename(aside / log.name)
        log.unlink(missing_ok=True)
        index.unlink(missing_ok=True)

    def _place(self, new: Path, target: Path, aside: Path, mode: int) -> None:
        """One file, whole or not at all; the one before it is kept."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.exists() and target.read_bytes() == new.read_bytes() and target != self.database:
            return
        fresh = target.with_name(f".{target.name}.restored")
        shutil.copyfile(new, fresh)
        fresh.chmod(mode)
        self._give_to_owner(fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        if os.path.lexists(target):
            aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._give_to_owner(aside.parent)
            target.rename(aside)
        fresh.rename(target)

    def _give_to_owner(self, path: Path) -> None:
        """Run by root, everything still belongs to the server's user."""
        if os.geteuid() == 0:
            owner = self.state_dir.stat()
            os.chown(path, owner.st_uid, owner.st_gid)


def _restore_beside(config: Config, unpacked: Path, manifest: Manifest) -> None:
    """Those that are missing; one that is there may have been renewed since."""
    for name, facts in manifest.files.items():
        directory, _, below = name.partition("/")
        target = config.base_dir / below
        if directory == BESIDE and not os.path.lexists(target):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_new(target, (unpacked / name).read_bytes(), facts["mode"])
            except OSError as error:
                raise KipukaError(f"{target}: cannot be restored: {error.strerror}") from error
            click.echo(f"restored {target}")


def _check_schema(manifest: Manifest) -> None:
    if manifest.schema not in known_revisions():
        raise BundleUnusable(
            f"was made by kipuka {manifest.kipuka} with schema {manifest.schema}, and this one knows up to {HEAD}:"
            " use the newer kipuka"
        )
    if DATABASE not in manifest.files:
        raise BundleUnusable("holds no database")


def _configuration(path: Path | None, restored: Path) -> Config:
    """The configuration that is there, else the restored one, written to where ``path`` says."""
    try:
        return _configuration_at(path, restored)
    except ConfigurationError as error:
        if path is None and error.where == "kipuka.toml":
            raise KipukaError("there is no kipuka.toml here; -c FILE says where the restored one goes") from None
        raise


def _configuration_at(path: Path | None, restored: Path) -> Config:
    if path is not None and not path.exists():
        try:
            with path.open("xb") as file:
                file.write(restored.read_bytes())
        except OSError as error:
            raise ConfigurationError(str(path), f"cannot be written: {error.strerror}") from None
        click.echo(f"restored {path}")
    config = read_config(path)
    if config.path.read_bytes() != restored.read_bytes():
        click.echo(f"note: {config.path} is not what it was at the backup; it stays as it is")
    return config


@contextmanager
def _source(file: Path) -> Iterator[IO[bytes]]:
    try:
        if str(file) == _TERMINAL:
            yield sys.stdin.buffer
            return
        with file.open("rb") as opened:
            yield opened
    except OSError as error:
        raise KipukaError(f"{error.filename or file}: {error.strerror}") from error
    except BundleUnusable as error:
        raise KipukaError(f"{file} {error}") from None
