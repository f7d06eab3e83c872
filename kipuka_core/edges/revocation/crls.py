"""A certificate's status by CRLs: configured files, configured URLs, then the certificate's distribution points.

The first of these three that has a current CRL for the certificate decides. Among the CRLs of one kind one that lists
the certificate is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from kipuka_core.domain.ports import RunBlocking
from kipuka_core.edges.revocation.asked import Asked, Finding, unknown
from kipuka_core.edges.revocation.crl import Crl
from kipuka_core.edges.revocation.crl_source import CrlSource, Held, file_reader
from kipuka_core.edges.revocation.memory import Memory
from kipuka_core.edges.revocation.trouble import Complaints, SourceFailed, shown_url
from kipuka_core.errors import ConfigurationError, Unavailable
from kipuka_core.model.revocation import RevocationStatus

Get = Callable[[str], Awaitable[bytes]]
"""Fetches what is behind a URL; raises SourceFailed."""
_MAX_POINT_URLS = 4
_REMEMBERED_POINTS = 100


class CrlLookup:
    """Finds out by CRLs, configured ones before those that a certificate names."""

    def __init__(
        self,
        configured: Sequence[str | Path],
        get: Get,
        run_blocking: RunBlocking,
        *,
        cache_ttl: timedelta,
        complaints: Complaints,
    ) -> None:
        self._get = get
        self._run_blocking = run_blocking
        self._cache_ttl = cache_ttl
        self._complaints = complaints
        paths = [each for each in configured if isinstance(each, Path)]
        self._files = [self._source(str(path), file_reader(path, run_blocking)) for path in paths]
        self._urls = [self._url_source(url) for url in configured if isinstance(url, str)]
        self._points: Memory[str, CrlSource] = Memory(_REMEMBERED_POINTS)

    async def find(self, asked: Asked, now: datetime) -> Finding:
        """What CRLs say of a certificate; unknown, with all reasons, when none of them counts."""
        problems: list[str] = []
        for sources in (self._files, self._urls):
            found = await asyncio.gather(*(self._ask(source, asked, now, problems) for source in sources))
            decided = _decided(found)
            if decided is not None:
                return decided
        for source in self._points_of(asked):
            decided = await self._ask(source, asked, now, problems, is_expected=True)
            if decided is not None:
                return decided
        return unknown("; ".join(dict.fromkeys(problems)) or "no CRL is configured for it, and it names none")

    async def prepare(self, now: datetime) -> list[Held]:
        """Read every configured file; nothing changes yet. Raises ConfigurationError."""
        held = []
        for source in self._files:
            try:
                held.append(await source.load(now))
            except SourceFailed as error:
                raise ConfigurationError("revocation.crls", str(error)) from error
        return held

    def commit(self, files: Sequence[Held], now: datetime) -> None:
        """Use what :meth:`prepare` read, and forget what was fetched."""
        for source, held in zip(self._files, files, strict=True):
            source.begin_anew(held)
            for problem in filter(None, (crl.problem_at(now) for crl in held.crls)):
                self._complaints.about(source.name, problem)
        for source in self._urls:
            source.begin_anew()
        for source in self._points.values():
            source.begin_anew()

    async def close(self) -> None:
        """Stop reading."""
        for source in (*self._files, *self._urls, *self._points.values()):
            await source.close()

    def _points_of(self, asked: Asked) -> Iterable[CrlSource]:
        urls = dict.fromkeys(url for point in asked.points if not point.is_partial for url in point.urls)
        for url in list(urls)[:_MAX_POINT_URLS]:
            source = self._points.get(url)
            if source is None:
                source = self._url_source(url)
                self._points.put(url, source)
            yield source

    async def _ask(
        self, source: CrlSource, asked: Asked, now: datetime, problems: list[str], *, is_expected: bool = False
    ) -> Finding | None:
        """The finding of one source, None when it has no CRL that counts; then ``problems`` says why, if it should."""
        try:
            held = await source.current(now)
        except SourceFailed as error:
            problems.append(str(error))
            self._complaints.about(source.name, error.problem)
            return None
        found, wrong = [], []
        relevant = [crl for crl in held.crls if crl.is_for(asked)]
        for crl in relevant:
            problem = crl.problem_at(now) or await self._signature_problem(crl, asked)
            if problem:
                wrong.append(problem)
            else:
                found.append(_finding(crl, asked, source.name, held.until))
        for problem in wrong:
            self._complaints.about(source.name, problem)
        if not wrong:
            self._complaints.settled(source.name)
        if is_expected and not relevant:
            wrong.append("has no CRL of its issuer that is about it")
        problems.extend(f"{source.name} {problem}" for problem in wrong)
        return _decided(found)

    async def _signature_problem(self, crl: Crl, asked: Asked) -> str:
        known = crl.known_problem_with(asked.issuer)
        if known is not None:
            return known
        try:
            problem: str = await self._run_blocking(crl.problem_with, asked.issuer)
        except Unavailable:
            return "could not be verified, because the server is overloaded"
        return problem

    def _url_source(self, url: str) -> CrlSource:
        return self._source(shown_url(url), lambda: self._get(url))

    def _source(self, name: str, read: Callable[[], Awaitable[bytes]]) -> CrlSource:
        return CrlSource(name, read, self._run_blocking, cache_ttl=self._cache_ttl)


def _finding(crl: Crl, asked: Asked, source: str, until: datetime) -> Finding:
    if crl.next_update is not None:
        until = min(until, crl.next_update)
    if crl.says(asked.certificate):
        return Finding(RevocationStatus.REVOKED, f"{asked} is listed in {source}", until)
    return Finding(RevocationStatus.GOOD, f"{asked} is not listed in {source}", until)


def _decided(found: Iterable[Finding | None]) -> Finding | None:
    """The worst of what was found."""
    findings = [each for each in found if each is not None]
    revoked = [each for each in findings if each.status is RevocationStatus.REVOKED]
    return next(iter(revoked or findings), None)
