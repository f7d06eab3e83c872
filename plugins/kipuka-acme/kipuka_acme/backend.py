"""CA backend ``acme``: a registration authority in front of a CA that speaks ACME (RFC 8555)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import ClassVar

from cryptography import x509

from kipuka_acme.account import TermsNotAgreed
from kipuka_acme.chains import Chains
from kipuka_acme.client import Client, NewOrder
from kipuka_acme.identifiers import identifiers_of
from kipuka_acme.opening import Opening
from kipuka_acme.ordering import Orders, Step
from kipuka_acme.problems import Problem, account_refused, refusal
from kipuka_acme.rate_limits import RateLimits
from kipuka_acme.reference import Reference
from kipuka_acme.renewal import certificate_id
from kipuka_acme.session import Session
from kipuka_acme.settings import AcmeSettings
from kipuka_core import (
    Approved,
    Asked,
    CaBackend,
    CaChain,
    CaProfile,
    Issued,
    NotIssued,
    Provider,
    Services,
    Template,
    Unavailable,
    Wait,
)

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0
_LONGEST_WAIT_SECONDS = 3600


class AcmeCa(CaBackend):
    """Orders certificates. Every step can be taken again, by another process too: see :mod:`kipuka_acme.ordering`."""

    external: ClassVar[bool] = True
    finds = True
    """:meth:`issue` makes an order and no more, so what has no reference was never issued."""
    revokes = True

    def __init__(
        self,
        settings: AcmeSettings,
        services: Services,
        *,
        chains: Chains,
        session: Session,
        client: Client,
        orders: Orders,
    ) -> None:
        self._settings = settings
        self._services = services
        self._chains = chains
        self._session = session
        self._client = client
        self._orders = orders
        self._limits = RateLimits(services.clock)
        self._profile = settings.ca_profile()
        self._unknown_issuers: set[x509.Name] = set()

    @property
    def may_set(self) -> CaProfile:
        """What the settings declare."""
        return self._profile

    async def chain(self) -> CaChain:
        """What ``chain`` lists."""
        return self._chains.published

    async def ping(self) -> None:
        """Read the directory. Raises Unavailable."""
        try:
            await self._session.directory(anew=True)
        except Problem as problem:
            raise refusal(problem) from problem

    async def issue(self, approved: Approved) -> Wait:
        """Make an order (RFC 8555 7.4), which issues nothing before it is finalised: so whatever fails here, has not.

        Raises CsrRefused for names that ACME has not, NotAllowed or CsrRefused for the CA's refusal, else Unavailable.
        """
        names = identifiers_of(approved.template, approved.enrolment.csr)
        self._limits.check(names)
        not_before, not_after = self._times(approved.template)
        wanted = NewOrder(identifiers=names, not_before=not_before, not_after=not_after, profile=self._settings.profile)
        try:
            async with self._in_time():
                order_url = await self._ordered(wanted, approved.enrolment.renewing)
        except Problem as problem:
            if problem.is_rate_limit:
                self._limits.hold(names, problem.retry_after_seconds or 60)
            if problem.kind == "unauthorized":  # for names there is rejectedIdentifier: this is a closed account
                raise account_refused() from problem
            raise refusal(problem) from problem
        reason = "the certification authority has an order for it"
        return Wait(reason, retry_after_seconds=0, reference=str(Reference(order_url)))

    async def poll(self, asked: Asked) -> Issued | Wait:
        """Take the order forward, as far as it goes in half of the time that a call may take."""
        if not asked.reference:
            raise NotIssued("the certification authority has no order for it that could have been issued; ask again")
        async with self._in_time():
            return await self._forward(asked, time.monotonic() + self._services.call_timeout_seconds / 2)

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """RFC 8555 7.6, by the account's key. Raises NotAllowed where the CA refuses, Unavailable where it is away."""
        try:
            async with self._in_time():
                await self._client.revoke(certificate, reason)
        except Problem as problem:
            raise refusal(problem) from problem

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Before the core gives up, which would know less. Raises Unavailable, also where there is no account yet."""
        try:
            async with asyncio.timeout(self._services.call_timeout_seconds * 0.9):
                yield
        except TimeoutError as error:
            raise Unavailable("the certification authority is slow") from error
        except TermsNotAgreed as error:
            raise account_refused() from error

    def _times(self, template: Template) -> tuple[datetime | None, datetime | None]:
        """What an order asks for where the CA does not decide; never more than the CA can give."""
        if self._profile.validity is not None:
            return None, None
        return template.not_before, min(template.not_after, self._chains.shortest_end)

    async def _ordered(self, wanted: NewOrder, renewing: x509.Certificate | None) -> str:
        """With what it replaces, where the CA takes that (RFC 9773 5); else without."""
        replaces = None
        offers = (await self._session.directory()).renewal_info is not None
        if renewing is not None and offers and self._chains.issuer_of(renewing) is not None:
            replaces = certificate_id(renewing)
        if replaces is not None:
            try:
                return await self._client.new_order(wanted.replacing(replaces))
            except Problem as problem:
                if not problem.is_refusal:
                    raise
        return await self._client.new_order(wanted)

    async def _forward(self, asked: Asked, until: float) -> Issued | Wait:
        reference = Reference.parse(asked.reference)
        own_pause = _SHORTEST_PAUSE_SECONDS
        while True:
            outcome = await self._orders.step(reference, asked.csr_der)
            if not isinstance(outcome, Step):
                return Issued(self._known(outcome))
            pause = own_pause if outcome.pause_seconds is None else outcome.pause_seconds
            if outcome.reference != reference or time.monotonic() + pause > until:
                return _wait(outcome)
            await asyncio.sleep(pause)
            own_pause = min(own_pause * 2, _LONGEST_PAUSE_SECONDS)

    def _known(self, certificate: x509.Certificate) -> x509.Certificate:
        """Raises Unavailable for one of an issuer that ``chain`` does not have: it can be fetched when it has."""
        if self._chains.issuer_of(certificate) is None:
            if certificate.issuer not in self._unknown_issuers:
                self._unknown_issuers.add(certificate.issuer)
                issuer = certificate.issuer.rfc4514_string()
                self._services.warn(
                    f"ca.{self._settings.id}.chain: no file begins with {issuer}, which the CA issues under; add one,"
                    " and the certificates that wait are handed out"
                )
            raise Unavailable("the certification authority issues under a certificate that this server does not know")
        return certificate


def _wait(step: Step) -> Wait:
    moved = step.pause_seconds == 0
    seconds = 0 if moved else min(max(1, step.pause_seconds or 5), _LONGEST_WAIT_SECONDS)
    return Wait(step.reason, retry_after_seconds=seconds, reference=str(step.reference))


@asynccontextmanager
async def _open(settings: AcmeSettings, services: Services) -> AsyncIterator[AcmeCa]:
    async with AsyncExitStack() as stack:
        opening = Opening(settings, services, stack)
        chains = await opening.chains()
        session = await opening.session()
        account = await opening.account(session)
        client = Client(session, account)
        orders = Orders(
            client=client,
            solvers=await opening.solvers(session.key.thumbprint),
            thumbprint=session.key.thumbprint,
            clock=services.clock,
            warn=opening.warn_once,
        )
        yield AcmeCa(settings, services, chains=chains, session=session, client=client, orders=orders)


PROVIDER: Provider[CaBackend] = Provider(name="acme", settings=AcmeSettings, open=_open)
