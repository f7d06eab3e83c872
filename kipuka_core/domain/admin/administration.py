"""Everything that administrators do, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kipuka_core.domain.admin.certificates import CertificateAdministration
from kipuka_core.domain.admin.lockouts import LockoutAdministration
from kipuka_core.domain.admin.passwords import OtpAdministration
from kipuka_core.domain.admin.store import AdminStore
from kipuka_core.domain.admin.waiting import RequestAdministration
from kipuka_core.model.search import EventQuery, Page, PageWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """What a front end works with."""

    store: AdminStore
    certificates: CertificateAdministration
    otps: OtpAdministration
    lockouts: LockoutAdministration
    requests: RequestAdministration

    async def audit(self, query: EventQuery, page: PageWanted) -> Page[dict[str, Any]]:
        """Audit facts of the store, newest first."""
        return await self.store.page_of_events(query, page)
