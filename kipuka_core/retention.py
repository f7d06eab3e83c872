"""The job that takes old records out of the database (``[retention]``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from kipuka_core.config import Config
from kipuka_core.domain.ports import EventHub
from kipuka_core.edges import archive, log
from kipuka_core.edges.store import OldKind, SqlStore
from kipuka_core.errors import StoreUnavailable, Unavailable
from kipuka_core.model.event import RecordsArchived

logger = log.get_logger()
_JOB = "retention"
_CHUNK = 500
_LOOK_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionJob:
    """Looks every minute at most whether the job is due, and does it when no other process has."""

    store: SqlStore
    events: EventHub
    clock: Callable[[], datetime]
    kept: Mapping[OldKind, timedelta]
    """What leaves the database, and how long after its end."""
    directory: Path
    interval: timedelta
    chunk: int = _CHUNK

    @classmethod
    def of(cls, config: Config, store: SqlStore, events: EventHub, clock: Callable[[], datetime]) -> RetentionJob:
        """The job of a configuration."""
        settings = config.retention
        seconds = {kind: getattr(settings, kind.value) for kind in OldKind}
        return cls(
            store=store,
            events=events,
            clock=clock,
            kept={kind: timedelta(seconds=each) for kind, each in seconds.items() if each is not None},
            directory=settings.archive_dir or config.server.state_dir / "archive",
            interval=timedelta(seconds=settings.interval),
        )

    async def run(self) -> None:
        """Until cancelled. What fails is logged, and tried again when the job is due again."""
        while self.kept:
            try:
                await self.run_if_due()
            except (StoreUnavailable, Unavailable, OSError) as error:
                logger.error("old records stay in the database", problem=str(error))
            except Exception:
                logger.exception("old records stay in the database")
            await asyncio.sleep(min(_LOOK_SECONDS, self.interval.total_seconds()))

    async def run_if_due(self) -> bool:
        """Do it if it is due and nobody else does it. Raises StoreUnavailable, Unavailable, OSError."""
        now = self.clock()
        if not await self.store.claim_job(_JOB, now, self.interval):
            return False
        for kind, duration in self.kept.items():
            await self._archive(kind, now - duration, self.directory / f"{kind}-{now:%Y%m%dT%H%M%S%f}Z.jsonl.gz")
        return True

    async def _archive(self, kind: OldKind, before: datetime, file: Path) -> None:
        count = 0
        try:
            while rows := await self.store.old_rows(kind, before, self.chunk):
                await asyncio.to_thread(archive.append, file, [row.fields for row in rows])
                await self.store.delete_rows(kind, [row.key for row in rows])
                count += len(rows)
        finally:
            if count:
                await self.events.emit(RecordsArchived(time=self.clock(), what=kind.value, count=count, file=str(file)))
