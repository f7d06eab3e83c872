"""From an offer to an identity: authenticators are asked in the order of the label, the first identity wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import NoneType

from kipuka_core.domain.guard import Guard, called
from kipuka_core.domain.ports import Authenticator, EventHub, LockoutLimits, Store
from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.errors import LockedOut, NotAllowed, NotAuthenticated, PluginFailed, WrongSecret
from kipuka_core.model.client_network import client_network
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.event import ClientLockedOut
from kipuka_core.model.identity import ClientIdentity, Offer
from kipuka_core.model.request import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """Asks the authenticators and counts wrong secrets."""

    authenticators: Mapping[str, Authenticator]
    guard: Guard
    store: Store
    events: EventHub
    limits: LockoutLimits
    standing: CertificateStanding | None = None
    """Asked about a certificate that an identity rests on. None: ``[revocation]`` is off, the authenticator's word and
    the renewal rule count."""

    async def identify(self, offer: Offer) -> ClientIdentity:
        """Say whose offer this is.

        Raises NotAuthenticated (nobody believes it), NotAllowed (known, but not here) and LockedOut.
        """
        certificate = offer.connection.client_certificate
        if offer.operation is Operation.SIMPLEREENROLL and certificate is None:
            raise NotAuthenticated(
                "simplereenroll renews the client certificate of the TLS connection, and this connection has none:"
                " present the certificate to be renewed, or use simpleenroll",
                code="no_client_certificate",
            )
        await self._refuse_locked_out(offer)
        try:
            identity = await self._first_identity(offer)
        except WrongSecret as wrong:
            await self._count_failure(offer, wrong.entity_id)
            raise self._not_authenticated(offer) from None
        if identity is None:
            if offer.credentials is not None:
                await self._count_failure(offer, offer.credentials.username)
            raise self._not_authenticated(offer)
        # Again: of many attempts sent at once, those that were under way when the lockout began tell nothing.
        await self._refuse_locked_out(offer)
        if identity.certificate is not None and self.standing is not None:
            await self.standing.check(offer.connection.client_chain, offer.time)
        return identity

    async def _first_identity(self, offer: Offer) -> ClientIdentity | None:
        not_here: NotAllowed | None = None
        for names in offer.label.auth_order:
            try:
                identity = await self._ask_all(names, offer)
            except NotAllowed as refusal:
                # Known, but not for this label. Another credential of the same offer may still count here.
                not_here = not_here or refusal
                continue
            if identity is not None and _may_serve(identity, offer):
                return identity
        if not_here is not None:
            raise not_here
        return None

    async def _ask_all(self, names: Sequence[str], offer: Offer) -> ClientIdentity | None:
        """The identity that every one of these authenticators agrees to; the first of them says who it is."""
        identities: list[ClientIdentity] = []
        for name in names:
            authenticator = self.authenticators[name]
            identity = await self.guard.call(
                name, authenticator.authenticate, offer, expect=(ClientIdentity, NoneType), passes=(WrongSecret,)
            )
            if identity is None:
                return None
            if identity.certificate is not None and identity.certificate != offer.connection.client_certificate:
                raise PluginFailed(
                    name,
                    f"{called(authenticator.authenticate)} answered with an identity that rests on another certificate"
                    " than the client's; give offer.connection.client_certificate or None",
                )
            identities.append(identity)
        return _joined(identities)

    async def _refuse_locked_out(self, offer: Offer) -> None:
        if offer.credentials is None:
            return
        address, username = client_network(offer.connection.source_address), _countable(offer.credentials.username)
        until = await self.store.locked_until(address, username, offer.time)
        if until is not None:
            wait_seconds = max(1, round((until - offer.time).total_seconds()))
            raise LockedOut(
                f"too many failed attempts with this user name from this address; wait {wait_seconds} seconds",
                retry_after_seconds=wait_seconds,
            )

    async def _count_failure(self, offer: Offer, entity_id: str) -> None:
        address, entity_id = client_network(offer.connection.source_address), _countable(entity_id)
        until = await self.store.count_failure(address, entity_id, limits=self.limits, now=offer.time)
        if until is None:
            await self._refuse_locked_out(offer)
        else:
            await self.events.emit(_locked_out(offer, entity_id, until))

    def _not_authenticated(self, offer: Offer) -> NotAuthenticated:
        offered = []
        if offer.connection.client_certificate is not None:
            offered.append("the client certificate")
        if offer.credentials is not None:
            offered.append("the HTTP credentials")
        if not offered:
            return NotAuthenticated(
                "authentication is required: present a client certificate in the TLS handshake, or HTTP Basic"
                " credentials (entity id and one-time password)"
            )
        return NotAuthenticated(f"{' and '.join(offered)} of this request are not accepted here")


def _countable(name: str) -> str:
    """The name under which failures are counted; what could be nobody's name shares the empty one."""
    return "" if entity_id_problem(name) else name


def _may_serve(identity: ClientIdentity, offer: Offer) -> bool:
    """A renewal rests on the presented certificate (RFC 7030 3.3.2): an identity of another kind does not serve it."""
    return offer.operation is not Operation.SIMPLEREENROLL or identity.certificate is not None


def _joined(identities: Sequence[ClientIdentity]) -> ClientIdentity | None:
    if not identities:
        return None
    first = identities[0]
    if len(identities) == 1:
        return first
    for each in identities:
        # A password that several devices share may stand beside a certificate; one that was made for one device is its.
        if each.one_time is not None and each.entity_id != first.entity_id:
            raise NotAuthenticated(
                "the one-time password was made for another entity than the one that the other credential names",
                code="entities_differ",
            )
    return replace(
        first,
        authenticator="+".join(identity.authenticator for identity in identities),
        certificate=next((each.certificate for each in identities if each.certificate is not None), None),
        one_time=next((each.one_time for each in identities if each.one_time is not None), None),
    )


def _locked_out(offer: Offer, entity_id: str, until: datetime) -> ClientLockedOut:
    return ClientLockedOut(
        time=offer.time,
        label=offer.label.name,
        source_address=offer.connection.source_address,
        tls_version=offer.connection.tls_version,
        entity_id=entity_id,
        locked_until=until.isoformat(),
    )
