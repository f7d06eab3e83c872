"""Which source is asked about which certificate, and how long its answer is good for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kipuka_core.domain.ca_ports import RunBlocking
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.revocation.asked import Asked, Finding, ask_about, unknown
from kipuka_core.edges.revocation.crl_source import Held
from kipuka_core.edges.revocation.crls import CrlLookup, Get
from kipuka_core.edges.revocation.memory import Memory, SingleFlight
from kipuka_core.edges.revocation.responders import OcspLookup, Post
from kipuka_core.edges.revocation.trouble import RETRY_SECONDS, Complaints, clock_from
from kipuka_core.model.revocation import RevocationAnswer, RevocationStatus

log = get_logger()

PATIENCE = 2.5
"""How many times ``timeout`` a request waits for the status of a chain: by OCSP, by CRL, and some for itself."""
_HELD_SHARE = 0.25
"""The part of it, in times ``timeout``, that is kept for CRLs that are held, when nobody has answered until then."""
_REMEMBERED_FINDINGS = 10_000
_WORST_FIRST = (RevocationStatus.REVOKED, RevocationStatus.UNKNOWN, RevocationStatus.GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationSettings:
    """``[revocation]``, less what the core decides by itself (soft_fail, accept_unrecorded). Times are seconds."""

    check: Literal["crl", "ocsp", "ocsp-then-crl"]
    crls: tuple[str | Path, ...] = ()
    responder: str | None = None
    cache_ttl_seconds: float = 300.0
    timeout_seconds: float = 10.0


class RevocationChecker:
    """A :class:`~kipuka_core.domain.ports.RevocationSource`.

    Every finding is remembered for as long as its source says; that there is none, for
    :data:`~.trouble.RETRY_SECONDS`. ``get`` and ``post`` are how CRLs are fetched and responders asked.
    """

    def __init__(
        self,
        settings: RevocationSettings,
        run_blocking: RunBlocking,
        *,
        get: Get,
        post: Post,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        cache_ttl, complaints = timedelta(seconds=settings.cache_ttl_seconds), Complaints()
        self._complaints = complaints
        self._crls: CrlLookup | None = None
        self._ocsp: OcspLookup | None = None
        if settings.check != "ocsp":
            self._crls = CrlLookup(settings.crls, get, run_blocking, cache_ttl=cache_ttl, complaints=complaints)
        if settings.check != "crl":
            self._ocsp = OcspLookup(
                settings.responder,
                post,
                run_blocking,
                cache_ttl=cache_ttl,
                timeout_seconds=settings.timeout_seconds,
                complaints=complaints,
            )
        self._clock = clock
        self._patience_seconds = (PATIENCE - _HELD_SHARE) * settings.timeout_seconds
        self._held_seconds = _HELD_SHARE * settings.timeout_seconds
        self._findings: Memory[bytes, Finding] = Memory(_REMEMBERED_FINDINGS)
        self._flights = SingleFlight()
        self._epoch = 0

    async def status_of(self, chain: Sequence[x509.Certificate], now: datetime) -> RevocationAnswer:
        """The worst status among the certificates of a verified chain, leaf first, below its anchor. Never raises."""
        try:
            findings = await asyncio.gather(*(self._in_time(each, issuer, now) for each, issuer in pairwise(chain)))
        except Exception as error:
            log.exception("a revocation status cannot be found out")
            return RevocationAnswer(RevocationStatus.UNKNOWN, f"internal error: {type(error).__name__}")
        for (_, issuer), finding in zip(pairwise(chain), findings, strict=True):
            if finding.status is RevocationStatus.UNKNOWN:
                # By issuer: a CRL server that is away may leave a whole fleet of devices unknown.
                name = issuer.subject.rfc4514_string()
                self._complaints.about(f"issuer {name}", finding.detail, event="revocation status unknown")
        for status in _WORST_FIRST:
            details = [each.detail for each in findings if each.status is status]
            if details:
                return RevocationAnswer(status, "; ".join(details))
        return RevocationAnswer(RevocationStatus.GOOD, "a trust anchor is not asked about")

    async def prepare_reload(self) -> list[Held]:
        """Read and check the configured CRL files; raises ConfigurationError, and changes nothing yet."""
        return [] if self._crls is None else await self._crls.prepare(self._clock())

    def commit_reload(self, prepared: object) -> None:
        """Use what :meth:`prepare_reload` read, and forget every remembered answer."""
        if self._crls is not None and isinstance(prepared, list):
            self._crls.commit(prepared, self._clock())
        if self._ocsp is not None:
            self._ocsp.forget()
        self._findings.clear()
        self._epoch += 1  # what is being asked now shall not be remembered

    async def close(self) -> None:
        """Stop asking."""
        await self._flights.close()
        if self._crls is not None:
            await self._crls.close()

    async def _in_time(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Finding:
        """The finding, or after the time that a request waits, what the CRLs say that are held."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                return await self._status(certificate, issuer, now)
        # What is under way goes on, and the next request finds its result.
        asked = ask_about(certificate, issuer)
        finding = None
        if self._crls is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._held_seconds):
                    finding = await self._crls.find_held(asked, now)
        return finding or unknown(f"{asked}: its sources take too long to answer")

    async def _status(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Finding:
        key = certificate.fingerprint(hashes.SHA256()) + issuer.fingerprint(hashes.SHA256())
        known = self._findings.get(key)
        if known is not None and known.until is not None and now < known.until:
            return known
        return await self._flights.start((self._epoch, key), lambda: self._find(key, certificate, issuer, now))

    async def _find(
        self, key: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime
    ) -> Finding:
        epoch, clock = self._epoch, clock_from(now)
        finding = await self._asked_everywhere(ask_about(certificate, issuer), now)
        if finding.is_ours:
            return finding
        if finding.until is None:
            finding = Finding(finding.status, finding.detail, clock() + timedelta(seconds=RETRY_SECONDS))
        if epoch == self._epoch:
            self._findings.put(key, finding)
        return finding

    async def _asked_everywhere(self, asked: Asked, now: datetime) -> Finding:
        reasons, is_ours = [asked.note] if asked.note else [], False
        for source in (self._ocsp, self._crls):
            if source is None:
                continue
            finding = await source.find(asked, now)
            if finding.status is not RevocationStatus.UNKNOWN:
                return finding
            reasons.append(finding.detail)
            is_ours = is_ours or finding.is_ours
        return unknown(f"{asked}: {'; '.join(reasons)}", is_ours=is_ours)


@asynccontextmanager
async def open_revocation(settings: RevocationSettings, run_blocking: RunBlocking) -> AsyncIterator[RevocationChecker]:
    """Raises ConfigurationError for a CRL file that cannot be used."""
    from kipuka_core.edges.revocation.fetch import open_fetcher  # noqa: PLC0415  # httpx takes 0.2 s to import

    async with open_fetcher(settings.timeout_seconds) as fetcher:
        checker = RevocationChecker(settings, run_blocking, get=fetcher.crl, post=fetcher.ocsp)
        checker.commit_reload(await checker.prepare_reload())
        try:
            yield checker
        finally:
            await checker.close()
