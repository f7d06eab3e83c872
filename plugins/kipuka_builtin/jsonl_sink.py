"""Event sink ``jsonl``: one JSON object per line, appended to a file and on disk before ``emit`` returns.

Each line is tied to the one before by a keyed chain, whose end the store knows: `kipuka audit verify` finds what was
changed, removed, added or moved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from kipuka_builtin.append_file import AppendFile, check_appendable
from kipuka_builtin.batched_sink import BatchedSink
from kipuka_builtin.chain import ChainEnd, check_key, open_key
from kipuka_core import ConfigurationError, Event, EventSink, Provider, Services, Settings
from kipuka_core.hooks.secret_files import shown
from kipuka_core.model.audit_chain import AuditHead, ChainKey


class JsonlSettings(Settings):
    """``[[audit.sink]]`` with ``use = "jsonl"``."""

    path: Path | None = Field(
        default=None, description="The file to append to. Default: audit.jsonl in the state directory."
    )


class JsonlSink(BatchedSink):
    """Appends events to a file, each with its link in this writer's chain (:mod:`kipuka_core.model.audit_chain`).

    ``anchor`` is told where the chain ends whenever a batch is on disk.
    """

    def __init__(self, file: AppendFile, key: ChainKey, anchor: Callable[[AuditHead], None]) -> None:
        super().__init__()
        self._file = file
        self._key = key
        self._anchor = anchor
        self._end = ChainEnd.new()

    def write(self, batch: Sequence[bytes]) -> None:
        """Append the lines and have them on disk."""
        extended = ChainEnd.new()

        def compose(at: int) -> bytes:
            nonlocal extended
            lines, extended = self._end.extended(batch, at=at, key=self._key)
            return lines

        try:
            self._file.append(compose)
        except OSError:
            # Whether lines of this batch are in the file, nobody can say: what follows shall not depend on it.
            self._end = ChainEnd.new()
            raise
        self._end = extended

    def written(self) -> None:
        """Have the store remember how far the chain has come."""
        end = self._end
        self._anchor(
            AuditHead(
                writer=end.writer,
                key_id=self._key.id,
                file=self._file.path,
                seq=end.seq,
                mac=end.mac,
                time=datetime.now(UTC),
            )
        )

    async def ping(self) -> None:
        """Raise OSError when the file cannot be appended to."""
        await self.in_thread(self._file.reopen_if_moved)

    def ended(self) -> None:
        """Close the file."""
        self._file.close()


class _Silent(EventSink):
    """Stands in where nothing happens that has to be written down."""

    async def emit(self, event: Event) -> None:
        """Return."""


@asynccontextmanager
async def _open(settings: JsonlSettings, services: Services) -> AsyncIterator[EventSink]:
    path = services.state_dir / "audit.jsonl" if settings.path is None else services.base_dir / settings.path
    try:
        if services.dry_run:  # the file that root makes over a check is one that the server cannot write
            check_appendable(path)
            check_key(services)
            yield _Silent()
            return
        file = AppendFile(path)
    except OSError as error:
        raise ConfigurationError(shown(path), f"cannot be opened for appending: {error.strerror}") from None
    try:
        sink = JsonlSink(file, open_key(services), services.store.anchor)
        try:
            yield sink
        finally:
            await sink.close()
    finally:
        file.close()


PROVIDER: Provider[EventSink] = Provider("jsonl", JsonlSettings, _open)
