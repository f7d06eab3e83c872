"""A certificate's status by OCSP responders: the configured one, or those that the certificate names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from kipuka_core.domain.ca_ports import RunBlocking
from kipuka_core.edges.revocation.asked import Asked, Finding, unknown
from kipuka_core.edges.revocation.memory import Memory
from kipuka_core.edges.revocation.ocsp import AnswerUnusable, question_about, read_answer
from kipuka_core.edges.revocation.trouble import RETRY_SECONDS, Complaints, SourceFailed, clock_from, shown_url
from kipuka_core.errors import Unavailable
from kipuka_core.model.revocation import RevocationStatus

Post = Callable[[str, bytes, float], Awaitable[bytes]]
"""Sends a request to a URL and gives the answer, both DER, within this many seconds; raises SourceFailed."""
_MAX_RESPONDERS = 3
_REMEMBERED_AWAY = 1000


class OcspLookup:
    """Asks one responder after another until one gives an answer that counts."""

    def __init__(
        self,
        responder: str | None,
        post: Post,
        run_blocking: RunBlocking,
        *,
        cache_ttl: timedelta,
        timeout_seconds: float,
        complaints: Complaints,
    ) -> None:
        self._responder = responder
        self._post = post
        self._run_blocking = run_blocking
        self._cache_ttl = cache_ttl
        self._timeout_seconds = timeout_seconds
        self._complaints = complaints
        self._away: Memory[str, tuple[datetime, str]] = Memory(_REMEMBERED_AWAY)

    async def find(self, asked: Asked, now: datetime) -> Finding:
        """What responders say of a certificate; unknown, with all reasons, when none gives an answer that counts.

        All of them together have one ``timeout``: CRLs may have to be asked after them.
        """
        urls = (self._responder,) if self._responder else asked.responders[:_MAX_RESPONDERS]
        away = {url: known[1] for url in urls if (known := self._away.get(url)) is not None and now < known[0]}
        problems, asking = list(away.values()), [url for url in urls if url not in away]
        clock, is_ours = clock_from(now), False
        for url in asking:
            try:
                finding = await self._ask(url, asked, now, self._timeout_seconds / len(asking))
            except SourceFailed as error:
                problems.append(str(error))
                is_ours = is_ours or error.is_ours
                if not error.is_ours:
                    self._complaints.about(error.source, error.problem)
                if error.is_away:
                    self._away.put(url, (clock() + timedelta(seconds=RETRY_SECONDS), str(error)))
                continue
            self._complaints.settled(shown_url(url))
            if finding.status is not RevocationStatus.UNKNOWN:
                return finding
            problems.append(f"{shown_url(url)} {finding.detail}")
        return unknown("; ".join(problems) or "no OCSP responder is configured, and it names none", is_ours=is_ours)

    def forget(self) -> None:
        """Ask everybody again."""
        self._away.clear()

    async def _ask(self, url: str, asked: Asked, now: datetime, within_seconds: float) -> Finding:
        """Raises SourceFailed."""
        question = question_about(asked)
        answer_der = await self._post(url, question.request_der, within_seconds)
        try:
            finding: Finding = await self._run_blocking(
                lambda: read_answer(question, answer_der, now, cache_ttl=self._cache_ttl)
            )
        except AnswerUnusable as error:
            raise SourceFailed(shown_url(url), str(error)) from error
        except Unavailable as error:
            raise SourceFailed(shown_url(url), f"answered, but could not be read: {error}", is_ours=True) from error
        if finding.status is RevocationStatus.UNKNOWN:
            return finding
        return Finding(finding.status, f"{shown_url(url)}: {finding.detail}", finding.until)
