"""A certificate's status by CRLs: configured files, configured URLs, then the certificate's distribution points.

The first of these three that has a current CRL for the certificate decides. Among the CRLs of one kind one that lists
the certificate is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from kipuka_core.domain.ca_ports import RunBlocking
from kipuka_core.edges.revocation.asked import Asked, Finding, unknown
from kipuka_core.edges.revocation.crl import Crl
from kipuka_core.edges.revocation.crl_source import CrlSource, Held, file_reader
from kipuka_core.edges.revocation.memory import Memory
from kipuka_core.edges.revocation.trouble import RETRY_SECONDS, Complaints, SourceFailed, shown_url
from kipuka_core.errors import ConfigurationError, Unavailable
from kipuka_core.model.fingerprints import public_key_id
from kipuka_core.model.revocation import RevocationStatus

Get = Callable[[str], Awaitable[bytes]]
"""Fetches what is behind a URL; raises SourceFailed."""
_MAX_POINT_URLS = 4
_REMEMBERED_POINTS = 100


class _Question:
    """What one look-up asks about, and why it has no answer so far."""

    def __init__(self, asked: Asked, now: datetime) -> None:
        self.asked = asked
        self.now = now
        self.key_id = public_key_id(asked.issuer)
        self._troubles: dict[str, None] = {}
        self._is_ours = False

    def trouble(self, text: str, *, is_ours: bool = False) -> None:
        """Remember one reason; ``is_ours``: this server is too busy."""
        self._troubles[text] = None
        self._is_ours = self._is_ours or is_ours

    def unanswered(self) -> Finding:
        """Unknown, with all reasons."""
        issuer = self.asked.issuer.subject.rfc4514_string()
        nothing = f"no CRL of {issuer} is configured, and the certificate names none"
        return unknown("; ".join(self._troubles) or nothing, is_ours=self._is_ours)


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
        question = _Question(asked, now)
        for sources in (self._files, self._urls):
            found = await asyncio.gather(*(self._ask(source, question) for source in sources))
            decided = _decided(found)
            if decided is not None:
                return decided
        for source in self._points_of(asked):
            decided = await self._ask(source, question, is_expected=True)
            if decided is not None:
                return decided
        return question.unanswered()

    async def find_held(self, asked: Asked, now: datetime) -> Finding | None:
        """What CRLs say that have been read already; no source is waited for."""
        question = _Question(asked, now)
        for sources in (self._files, self._urls, list(self._points_of(asked))):
            decided = _decided([await self._read(source, source.held(), question) for source in sources])
            if decided is not None:
                return decided
        return None

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

    async def _ask(self, source: CrlSource, question: _Question, *, is_expected: bool = False) -> Finding | None:
        """The finding of one source, None when it has no CRL that counts; then the question knows why, if it should."""
        try:
            held = await source.current(question.now)
        except SourceFailed as error:
            question.trouble(str(error), is_ours=error.is_ours)
            if not error.is_ours:
                self._complaints.about(source.name, error.problem)
            return await self._read(source, source.held(), question)
        is_in_order = await self._verify(source, held, question)
        if is_in_order:
            self._complaints.settled(source.name)
        if is_expected and not any(crl.is_for(question.asked) for crl in held.crls):
            question.trouble(f"{source.name} has no CRL of its issuer that is about it")
        return await self._proven(source, held, question)

    async def _read(self, source: CrlSource, held: Held | None, question: _Question) -> Finding | None:
        """The finding of one source that is away: by what was read last, as long as it counts."""
        if held is not None:
            await self._verify(source, held, question)
        return await self._proven(source, held, question)

    async def _verify(self, source: CrlSource, held: Held, question: _Question) -> bool:
        """Keep those that the issuer did sign. Whether nothing is wrong with any that is for the certificate."""
        is_in_order = True
        for crl in held.crls:
            if not crl.is_for(question.asked):
                continue
            try:
                problem = await self._problem(source, crl, held, question)
            except Unavailable:
                is_in_order = False
                question.trouble(f"{source.name} is not verified, because the server is overloaded", is_ours=True)
                continue
            if problem:
                is_in_order = False
                question.trouble(f"{source.name} {problem}")
                self._complaints.about(source.name, problem)
            else:
                source.prove(crl, question.key_id, source.end_of(crl, held.read_at))
        return is_in_order

    async def _problem(self, source: CrlSource, crl: Crl, held: Held, question: _Question) -> str:
        """Why a CRL does not count. Raises Unavailable."""
        problem = crl.problem_at(question.now)
        if not problem and source.end_of(crl, held.read_at) <= question.now:
            problem = "is a CRL that has ended (without nextUpdate, and not read for long)"
        problem = problem or await self._signature_problem(crl, question.asked)
        newer = source.newer(crl, question.key_id)
        if not problem and newer is not None:
            problem = f"gives a CRL older than the one before it (thisUpdate {newer.this_update:%Y-%m-%d %H:%M:%S} UTC)"
        return problem

    async def _proven(self, source: CrlSource, held: Held | None, question: _Question) -> Finding | None:
        """What the verified CRLs of a source say that have not ended."""
        now, asked = question.now, question.asked
        is_fresh = held is not None and now < held.until
        until = held.until if held is not None and is_fresh else now + timedelta(seconds=RETRY_SECONDS)
        return _decided(
            _finding(kept.crl, asked, source.name, min(until, kept.ends))
            for kept in source.proven(question.key_id, now)
            # Another certificate of the same key may not allow what this one does.
            if kept.crl.is_for(asked) and kept.crl.known_problem_with(asked.issuer) == ""
        )

    async def _signature_problem(self, crl: Crl, asked: Asked) -> str:
        """Raises Unavailable."""
        known = crl.known_problem_with(asked.issuer)
        if known is not None:
            return known
        problem: str = await self._run_blocking(crl.problem_with, asked.issuer)
        return problem

    def _url_source(self, url: str) -> CrlSource:
        return self._source(shown_url(url), lambda: self._get(url))

    def _source(self, name: str, read: Callable[[], Awaitable[bytes]]) -> CrlSource:
        return CrlSource(name, read, self._run_blocking, cache_ttl=self._cache_ttl)


def _finding(crl: Crl, asked: Asked, source: str, until: datetime) -> Finding:
    if crl.says(asked.certificate):
        return Finding(RevocationStatus.REVOKED, f"{asked} is listed in {source}", until)
    return Finding(RevocationStatus.GOOD, f"{asked} is not listed in {source}", until)


def _decided(found: Iterable[Finding | None]) -> Finding | None:
    """The worst of what was found."""
    findings = [each for each in found if each is not None]
    revoked = [each for each in findings if each.status is RevocationStatus.REVOKED]
    return next(iter(revoked or findings), None)
