"""Which source is asked about which certificate, and how long its answer is good for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from kipuka_core.domain.ports import RunBlocking
from kipuka_core.model.revocation import RevocationAnswer, RevocationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationSettings:
    """``[revocation]``, less what the core decides by itself (soft_fail, accept_unrecorded). Times are seconds."""

    check: Literal["crl", "ocsp", "ocsp-then-crl"]
    crls: tuple[str | Path, ...] = ()
    responder: str | None = None
    cache_ttl_seconds: float = 300.0
    timeout_seconds: float = 10.0


class RevocationChecker:
    """A :class:`~kipuka_core.domain.ports.RevocationSource`."""

    async def status_of(self, chain: Sequence[x509.Certificate], now: datetime) -> RevocationAnswer:
        """The worst status among the certificates of a verified chain."""
        return RevocationAnswer(RevocationStatus.UNKNOWN, "not built")

    async def prepare_reload(self) -> object:
        """Read and check the configured CRL files; raises ConfigurationError, and changes nothing yet."""
        return None

    def commit_reload(self, prepared: object) -> None:
        """Use what :meth:`prepare_reload` read, and forget every remembered answer."""


@asynccontextmanager
async def open_revocation(settings: RevocationSettings, run_blocking: RunBlocking) -> AsyncIterator[RevocationChecker]:
    """Raises ConfigurationError for a CRL file that cannot be used."""
    yield RevocationChecker()
