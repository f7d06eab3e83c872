"""One order, from its state to the next (RFC 8555 7.1.6), so that each step can be taken again after a crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from kipuka_acme.challenges import Answering, Solver, choose
from kipuka_acme.client import Client, Seen
from kipuka_acme.problems import Problem, refusal, refused
from kipuka_acme.reference import Reference
from kipuka_acme.shapes import Authorization, Order, ProblemDocument
from kipuka_core import NotIssued, RequestRefused, Unavailable

_PENDING, _PROCESSING = "the certification authority checks the names", "the certification authority is at work"


@dataclass(frozen=True, slots=True)
class Step:
    """What there is to do next: look again after a pause, with this reference on record."""

    reference: Reference
    reason: str
    pause_seconds: int | None
    """What the CA or a setting says; None: nobody says anything."""


@dataclass(frozen=True, slots=True)
class Orders:
    """Takes orders forward. Nothing is kept here: there is an order's reference, and what the CA says."""

    client: Client
    solvers: Sequence[Solver]
    thumbprint: str
    clock: Callable[[], datetime]
    warn: Callable[[str], None]

    async def step(self, reference: Reference, csr_der: bytes) -> x509.Certificate | Step:
        """The certificate, or what comes next.

        Raises NotIssued for an order that is not there any more, CsrRefused or NotAllowed for the CA's refusal, and
        Unavailable where nothing can be said now.
        """
        try:
            seen = await self.client.order(reference.order_url)
        except Problem as problem:
            if problem.status == 404:
                raise NotIssued("the certification authority does not know the order any more; ask again") from problem
            if problem.is_refusal:  # a word about the question, and not about the order
                raise Unavailable("the certification authority does not show the order") from problem
            raise refusal(problem) from problem
        try:
            return await self._next(seen, reference, csr_der)
        except Problem as problem:
            raise refusal(problem) from problem

    async def _next(self, seen: Seen, reference: Reference, csr_der: bytes) -> x509.Certificate | Step:
        order = seen.order
        if order.status == "pending":
            return await self._authorize(seen, reference)
        if reference.presented_at is not None:
            await self._clean_up([await self.client.authorization(url) for url in order.authorizations])
            if order.status != "invalid":
                return Step(replace(reference, presented_at=None), _PROCESSING, 0)
        if order.status == "invalid":
            raise await self._why(order)
        if order.status == "ready":
            seen = await self.client.finalize(order.finalize, csr_der)
            order = seen.order
        if order.status == "valid" and order.certificate is not None:
            return await self.client.certificate(order.certificate)
        return Step(reference, _PROCESSING, seen.retry_after_seconds)

    async def _authorize(self, seen: Seen, reference: Reference) -> Step:
        authorizations = [await self.client.authorization(url) for url in seen.order.authorizations]
        if any(each.status not in {"pending", "valid"} for each in authorizations):
            if reference.presented_at is not None:
                await self._clean_up(authorizations)
            raise _why_not(authorizations) or refused("unauthorized", "a name could not be proven")
        answers = [choose(self.solvers, each, self.thumbprint) for each in authorizations if each.status == "pending"]
        wait_seconds = max((solver.wait_seconds for solver, _ in answers), default=0)
        now = int(self.clock().timestamp())
        if reference.presented_at is None and answers:
            for solver, answering in answers:
                await solver.present(answering)
            return Step(replace(reference, presented_at=now), _PENDING, wait_seconds)
        if reference.presented_at is not None and now < reference.presented_at + wait_seconds:
            return Step(reference, _PENDING, reference.presented_at + wait_seconds - now)
        for _, answering in answers:
            if answering.challenge.status == "pending":
                await self.client.begin(answering.challenge.url)
        return Step(reference, _PENDING, seen.retry_after_seconds)

    async def _clean_up(self, authorizations: Sequence[Authorization]) -> None:
        """Take back what was presented. What cannot be taken back keeps no device from its certificate."""
        for authorization in authorizations:
            for solver, answering in self._answered(authorization):
                try:
                    await solver.cleanup(answering)
                except Unavailable as error:
                    self.warn(f"{answering.challenge.type}: {error.reason}; answers stay where they are")

    def _answered(self, authorization: Authorization) -> Sequence[tuple[Solver, Answering]]:
        try:
            return [choose(self.solvers, authorization, self.thumbprint)]
        except RequestRefused:  # a CA may show, of an authorization that is decided, only what decided it
            return []

    async def _why(self, order: Order) -> RequestRefused:
        """An order that has failed says why; where a challenge has, only the challenge does."""
        if order.error is not None:
            return _refused(order.error)
        authorizations = [await self.client.authorization(url) for url in order.authorizations]
        return _why_not(authorizations) or refused("", "the order is invalid")


def _why_not(authorizations: Sequence[Authorization]) -> RequestRefused | None:
    errors = [
        challenge.error for each in authorizations for challenge in each.challenges if challenge.error is not None
    ]
    return _refused(errors[0]) if errors else None


def _refused(document: ProblemDocument) -> RequestRefused:
    problem = Problem(document)
    return refused(problem.kind, problem.text)
