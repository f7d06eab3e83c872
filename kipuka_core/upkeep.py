"""What a process looks after while it serves: TLS material that renews itself, and certificates that come to an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kipuka_core.assemble import Assembly
from kipuka_core.config import PluginTable
from kipuka_core.edges import log
from kipuka_core.errors import ConfigurationError, KipukaError, detail_of
from kipuka_core.live_tls import LiveTls

logger = log.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepTimes:
    """How often, in seconds: providers are asked whether they have something new; certificates are inspected."""

    poll_seconds: float = 10.0
    inspect_seconds: float = 86400.0


class Upkeep:
    """Serves what a TLS material provider has renewed, and says once a day what the operator should renew.

    Each process looks after itself, and only as far as certificate and key go: anchors change by a reload, which is for
    all processes at once. While one is under way (``is_reloading``) a renewal waits. ``says_warnings``: one process of
    the server says them for all.
    """

    def __init__(
        self,
        assembly: Assembly,
        live: LiveTls,
        tables: Sequence[PluginTable],
        *,
        is_reloading: Callable[[], bool] = lambda: False,
        says_warnings: bool = False,
        times: UpkeepTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._assembly = assembly
        self._live = live
        self._tables = tables
        self._is_reloading = is_reloading
        self._says_warnings = says_warnings
        self._times = times or UpkeepTimes()
        self._clock = clock
        self._inspected_at = clock()
        self._has_news = False

    async def run(self) -> None:
        """Look after everything until cancelled."""
        while True:
            await asyncio.sleep(self._times.poll_seconds)
            try:
                await self.poll()
                self.inspect()
            except Exception:
                logger.exception("upkeep failed; it goes on")

    async def poll(self) -> None:
        """Ask each provider, and change over when one has something new."""
        for table in self._tables:
            self._has_news |= await self._ask(table)
        if self._has_news and not self._is_reloading():
            await self._change_over()

    def inspect(self) -> None:
        """Once a day: say what is wrong with the certificates that are served."""
        if self._clock() - self._inspected_at < self._times.inspect_seconds:
            return
        self._inspected_at = self._clock()
        if self._says_warnings:
            for warning in self._live.certificate_warnings():
                logger.warning("configuration", warning=warning)

    async def _ask(self, table: PluginTable) -> bool:
        try:
            material = await self._assembly.open_tls(table)
            answer = await self._assembly.road.guard.call(table.use, material.upkeep, expect=bool)
        except KipukaError as error:
            self._note(f"{table.toml_path}: TLS material {table.use!r}", _told(error))
            return False
        self._note(f"{table.toml_path}: TLS material {table.use!r}", "")
        return answer

    async def _change_over(self) -> None:
        try:
            prepared = await self._live.prepare_certificate()
        except KipukaError as error:
            self._note("the renewed certificate is not served, the old one stays", str(error))
            return
        if self._is_reloading():  # one that began meanwhile; it may have read what was there before
            return
        self._live.commit(prepared)
        self._has_news = False
        self._note("the renewed certificate is not served, the old one stays", "")
        logger.info("renewed certificate served", serves=str(prepared.material))

    def _note(self, what: str, problem: str) -> None:
        """Say a problem once, and again only when it has been away or is another one; it is a warning meanwhile."""
        troubles = self._live.troubles
        if not problem:
            troubles.pop(what, None)
        elif troubles.get(what) != problem:
            logger.error("upkeep of TLS material", part=what, problem=problem)
            troubles[what] = problem


def _told(error: KipukaError) -> str:
    """What the operator may know. The text of a ConfigurationError is meant for nobody else."""
    if isinstance(error.__cause__, ConfigurationError):
        return str(error.__cause__)
    return detail_of(error)
