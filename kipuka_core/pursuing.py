"""The job that looks after requests at external CAs, and tells those CAs what was revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kipuka_core.assemble import Assembly
from kipuka_core.domain.pursuit import Pursuit
from kipuka_core.domain.telling import RevocationTeller
from kipuka_core.edges import log
from kipuka_core.errors import StoreUnavailable

logger = log.get_logger()
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PursuitJob:
    """Looks every second. Several processes may: each request is one's at a time."""

    pursuit: Pursuit
    teller: RevocationTeller
    clock: Callable[[], datetime]
    is_needed: bool
    """False where no CA is external."""

    @classmethod
    def of(cls, assembly: Assembly, clock: Callable[[], datetime]) -> PursuitJob:
        """The job of an open server."""
        return cls(
            pursuit=assembly.pursuit,
            teller=assembly.teller,
            clock=clock,
            is_needed=any(backend.external for backend in assembly.cas.values()),
        )

    async def run(self) -> None:
        """Until cancelled."""
        while self.is_needed:
            try:
                while await self.pursuit.look(self.clock()):
                    pass
                await self.teller.look(self.clock())
            except StoreUnavailable as error:
                logger.warning("requests at external CAs are not looked after", problem=str(error))
            except Exception:
                logger.exception("requests at external CAs are not looked after")
            await asyncio.sleep(_LOOK_SECONDS)
