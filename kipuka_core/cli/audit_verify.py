"""``kipuka audit verify``: whether the audit files are as they were written."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from kipuka_core.cli.common import config_option, read_config, with_store
from kipuka_core.config import Config
from kipuka_core.domain.audit_verification import AuditFile, Finding, Verification, verify
from kipuka_core.edges.store import SqlStore
from kipuka_core.errors import KipukaError
from kipuka_core.model.audit_chain import KEY_FILE, AuditHead, ChainKey, link_of

_SHOWN = 100
_GZIP_MAGIC = b"\x1f\x8b"


@click.command("verify")
@config_option
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="[FILE]...")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S"]),
    help="Older lines may be missing, as files are removed after a time (UTC; default: nothing may be missing).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def verify_files(config_path: Path | None, files: tuple[Path, ...], since: datetime | None, as_json: bool) -> None:
    r"""Verify that the lines of the sink jsonl are as they were written, and that none is missing.

    FILE: the file of the sink and those that logrotate made of it, compressed by gzip or not, in any order. Without
    any: those of every configured sink, with what stands beside them under the same name and a suffix.

    \b
    Damage is told with file, line and kind, and the exit code is 1:
      changed, foreign, missing, reordered, repeated, displaced, cut
    What crashes leave behind is told too, and is no damage:
      torn, unanchored, other_key
    """
    config = read_config(config_path)
    key = _read_key(config.server.state_dir / KEY_FILE)

    async def heads_of(store: SqlStore) -> Sequence[AuditHead]:
        return await store.audit_heads()

    heads = with_store(config_path, heads_of)  # before the files: what is written meanwhile is not missed there
    sinks = _sink_files(config)
    found = sorted(map(_File, files or _beside(sinks)), key=_File.begins)
    if not found:
        raise KipukaError(f"there is no audit file: {', '.join(map(str, sinks)) or 'no sink jsonl is configured'}")
    wanted = set(sinks) if not files else _written_to(found, heads, key) or set(sinks)
    result = verify(
        [AuditFile(str(file.path), file.lines) for file in found],
        heads,
        key,
        since=since.replace(tzinfo=UTC) if since else None,
        wanted=lambda head: head.file in wanted,
    )
    _print_json(result) if as_json else _print(result, len(found))
    if not result.is_whole:
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path

    def lines(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as plain:
                is_compressed = plain.read(2) == _GZIP_MAGIC
            with gzip.open(self.path) if is_compressed else self.path.open("rb") as content:
                yield from content
        except (OSError, EOFError) as error:
            raise KipukaError(f"{self.path} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def begins(self) -> tuple[str, str]:
        """The time of its first line that has one; files without any stand last."""
        for line in self.lines():
            try:
                return str(json.loads(line)["time"]), str(self.path)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return "~", str(self.path)


def _read_key(path: Path) -> ChainKey:
    try:
        return ChainKey.parse(path.read_bytes())
    except OSError as error:
        raise KipukaError(f"{path}: the key of the audit trail cannot be read: {error.strerror}") from None
    except ValueError:
        raise KipukaError(f"{path} is not a key of the audit trail") from None


def _sink_files(config: Config) -> list[Path]:
    named = [table.settings.get("path") for table in config.event_sinks if table.use == "jsonl"]
    return [config.base_dir / path if path else config.server.state_dir / "audit.jsonl" for path in named]


def _beside(sinks: Iterable[Path]) -> list[Path]:
    found = {path for sink in sinks if sink.parent.is_dir() for path in sink.parent.glob(f"{sink.name}*")}
    return sorted(path for path in found if path.is_file())


def _written_to(files: Sequence[_File], heads: Sequence[AuditHead], key: ChainKey) -> set[Path]:
    """The sinks, by their files, whose chains stand in these files."""
    by_writer = {head.writer: head.file for head in heads}
    found: set[Path] = set()
    for file in files:
        for line in file.lines():
            link = link_of(line.removesuffix(b"\n"), key)
            if link is not None and link.is_genuine and link.writer in by_writer:
                found.add(by_writer[link.writer])
                break
    return found


def _print(result: Verification, files: int) -> None:
    damage = [finding for finding in result.findings if finding.is_damage]
    notes = [finding for finding in result.findings if not finding.is_damage]
    for finding in (*damage[:_SHOWN], *notes[:_SHOWN]):
        click.echo(str(finding))
    for left in (damage[_SHOWN:], notes[_SHOWN:]):
        if left:
            click.echo(f"and {len(left)} more of this kind; --json shows all")
    what = f"{result.lines} lines of {result.chains} chains in {files} files"
    click.echo(f"DAMAGED: {len(damage)} findings in {what}" if damage else f"whole: {what}")


def _print_json(result: Verification) -> None:
    click.echo(
        json.dumps(
            {
                "whole": result.is_whole,
                "lines": result.lines,
                "chains": result.chains,
                "findings": [_body(finding) for finding in result.findings],
            },
            indent=2,
        )
    )


def _body(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "damage": finding.is_damage,
        "file": finding.file,
        "line": finding.line,
        "text": finding.text,
    }
