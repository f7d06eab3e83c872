"""A certificate's status by OCSP responders: the configured one, or those that the certificate names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from kipuka_core.domain.ports import RunBlocking
from kipuka_core.edges.revocation.asked import Asked, Finding, unknown
from kipuka_core.edges.revocation.memory import Memory
from kipuka_core.edges.revocation.ocsp import AnswerUnusable, question_about, read_answer
from kipuka_core.edges.revocation.trouble import RETRY_SECONDS, Complaints, SourceFailed, shown_url
from kipuka_core.errors import Unavailable
from kipuka_core.model.revocation import RevocationStatus

Post = Callable[[str, bytes], Awaitable[bytes]]
"""Sends a request to a URL and gives the answer, both DER; raises SourceFailed."""
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
        complaints: Complaints,
    ) -> None:
        self._responder = responder
        self._post = post
        self._run_blocking = run_blocking
        self._cache_ttl = cache_ttl
        self._complaints = complaints
        self._away: Memory[str, tuple[datetime, str]] = Memory(_REMEMBERED_AWAY)

    async def find(self, asked: Asked, now: datetime) -> Finding:
        """What responders say of a certificate; unknown, with all reasons, when none gives an answer that counts."""
        urls = (self._responder,) if self._responder else asked.responders[:_MAX_RESPONDERS]
        problems = []
        for url in urls:
            away = self._away.get(url)
            if away is not None and now < away[0]:
                problems.append(away[1])
                continue
            try:
                finding = await self._ask(url, asked, now)
            except SourceFailed as error:
                problems.append(str(error))
                self._complaints.about(error.source, error.problem)
                if error.is_away:
                    self._away.put(url, (now + timedelta(seconds=RETRY_SECONDS), str(error)))
                continue
            self._complaints.settled(shown_url(url))
            if finding.status is not RevocationStatus.UNKNOWN:
                return finding
            problems.append(f"{shown_url(url)} {finding.detail}")
        return unknown("; ".join(problems) or "no OCSP responder is configured, and it names none")

    def forget(self) -> None:
        """Ask everybody again."""
        self._away.clear()

    async def _ask(self, url: str, asked: Asked, now: datetime) -> Finding:
        """Raises SourceFailed."""
        question = question_about(asked)
        answer_der = await self._post(url, question.request_der)
        try:
            finding: Finding = await self._run_blocking(
                lambda: read_answer(question, answer_der, now, cache_ttl=self._cache_ttl)
            )
        except (AnswerUnusable, Unavailable) as error:
            raise SourceFailed(shown_url(url), str(error)) from error
        if finding.status is RevocationStatus.UNKNOWN:
            return finding
        return Finding(finding.status, f"{shown_url(url)}: {finding.detail}", finding.until)
