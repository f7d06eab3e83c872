from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from kipuka_core.domain.authenticate import Authentication
from kipuka_core.domain.ports import Authenticator, LockoutLimits
from kipuka_core.errors import LockedOut, NotAllowed, NotAuthenticated, WrongSecret
from kipuka_core.model.identity import BasicCredentials, ClientIdentity, Offer, OneTimeCredential
from kipuka_core.model.label import EnrollmentRules, Label
from kipuka_core.model.request import Connection, Operation
from kipuka_core.testing.pki import Authority
from tests.domain.harness import Harness


class _Believes(Authenticator):
    """Believes one password, knows one name, and counts how often it is asked."""

    def __init__(
        self, name: str, *, password: str = "right", knows: str = "device", with_certificate: bool = False
    ) -> None:
        self._name, self._password, self._knows, self._with_certificate = name, password, knows, with_certificate
        self.asked = 0

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        self.asked += 1
        if self._with_certificate:
            certificate = offer.connection.client_certificate
            if certificate is None:
                return None
            return ClientIdentity(authenticator=self._name, entity_id="cert", certificate=certificate)
        if offer.credentials is None or offer.credentials.username != self._knows:
            return None
        if offer.credentials.password != self._password:
            raise WrongSecret(offer.credentials.username)
        return ClientIdentity(authenticator=self._name, entity_id=offer.credentials.username)


class _NotHere(Authenticator):
    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        raise NotAllowed("another path", code="other_label")


def _authentication(harness: Harness, limits: LockoutLimits | None = None, /, **ports: Authenticator) -> Authentication:
    return Authentication(
        authenticators=ports,
        guard=harness.guard,
        store=harness.store,
        events=harness.events,
        limits=limits or LockoutLimits(),
    )


def _offer(  # every part of an offer
    harness: Harness,
    order: Sequence[Sequence[str]],
    *,
    user: str | None = None,
    password: str = "",
    authority: Authority | None = None,
    operation: Operation = Operation.SIMPLEENROLL,
    address: str = "192.0.2.7",
) -> Offer:
    chain = (authority.leaf().certificate, *authority.chain) if authority else ()
    return Offer(
        operation=operation,
        label=Label(
            name="", ca_id="default", rules=EnrollmentRules(), auth_order=tuple(tuple(names) for names in order)
        ),
        connection=Connection(address, "TLSv1.3", chain),
        credentials=None if user is None else BasicCredentials(user, password),
        read_csr=lambda: pytest.fail("nobody asked for the CSR"),
        time=harness.now,
    )


async def test_the_first_identity_wins_and_later_authenticators_are_not_called(harness: Harness) -> None:
    first, second = _Believes("first"), _Believes("second")
    authentication = _authentication(harness, first=first, second=second)
    identity = await authentication.identify(_offer(harness, [["first"], ["second"]], user="device", password="right"))
    assert identity.authenticator == "first"
    assert (first.asked, second.asked) == (1, 0)


async def test_not_mine_goes_on_to_the_next(harness: Harness) -> None:
    authentication = _authentication(harness, a=_Believes("a", knows="somebody"), b=_Believes("b"))
    identity = await authentication.identify(_offer(harness, [["a"], ["b"]], user="device", password="right"))
    assert identity.authenticator == "b"


async def test_a_wrong_secret_for_a_known_name_stops_and_is_counted_once(harness: Harness) -> None:
    second = _Believes("second", password="wrong")
    limits = LockoutLimits(max_failures=2)
    authentication = _authentication(harness, limits, first=_Believes("first"), second=second)
    offer = _offer(harness, [["first"], ["second"]], user="device", password="wrong")
    with pytest.raises(NotAuthenticated):
        await authentication.identify(offer)
    assert second.asked == 0
    with pytest.raises(NotAuthenticated):
        await authentication.identify(offer)
    with pytest.raises(LockedOut) as refusal:
        await authentication.identify(offer)
    assert 0 < refusal.value.retry_after_seconds <= limits.lockout_seconds
    (locked,) = harness.sink.events
    assert locked.as_dict()["event"] == "client_locked_out"


async def test_a_lockout_is_for_one_pair_of_address_and_entity_and_ends(harness: Harness) -> None:
    limits = LockoutLimits(max_failures=1, lockout_seconds=600)
    authentication = _authentication(harness, limits, a=_Believes("a"), b=_Believes("b", knows="other"))
    order = [["a"], ["b"]]
    with pytest.raises(NotAuthenticated):
        await authentication.identify(_offer(harness, order, user="device", password="wrong"))
    with pytest.raises(LockedOut):
        await authentication.identify(_offer(harness, order, user="device", password="right"))
    await authentication.identify(_offer(harness, order, user="other", password="right"))
    await authentication.identify(_offer(harness, order, user="device", password="right", address="192.0.2.8"))
    harness.now += timedelta(seconds=601)
    await authentication.identify(_offer(harness, order, user="device", password="right"))


async def test_an_unknown_name_counts_too_so_that_a_lockout_does_not_tell_which_names_exist(harness: Harness) -> None:
    authentication = _authentication(harness, LockoutLimits(max_failures=1), a=_Believes("a"))
    offer = _offer(harness, [["a"]], user="nobody\x00", password="x")
    with pytest.raises(NotAuthenticated):
        await authentication.identify(offer)
    with pytest.raises(LockedOut):
        await authentication.identify(offer)


async def test_every_name_of_an_inner_list_has_to_agree(harness: Harness, authority: Authority) -> None:
    ports = {"cert": _Believes("cert", with_certificate=True), "pass": _Believes("pass")}
    authentication = _authentication(harness, None, **ports)
    both = await authentication.identify(
        _offer(harness, [["cert", "pass"]], user="device", password="right", authority=authority)
    )
    assert both.authenticator == "cert+pass"
    assert both.entity_id == "cert"
    for offer in (
        _offer(harness, [["cert", "pass"]], user="device", password="right"),
        _offer(harness, [["cert", "pass"]], authority=authority),
    ):
        with pytest.raises(NotAuthenticated):
            await authentication.identify(offer)


class _OneTime(_Believes):
    """Believes a one-time password that was made for its own entity."""

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        return ClientIdentity(authenticator="otp", entity_id=self._knows, one_time=OneTimeCredential("1"))


async def test_a_one_time_password_stands_beside_the_certificate_of_its_own_entity_only(
    harness: Harness, authority: Authority
) -> None:
    order = [["cert", "otp"]]
    ports: dict[str, Authenticator] = {"cert": _Believes("cert", with_certificate=True)}
    own = _authentication(harness, None, **ports, otp=_OneTime("otp", knows="cert"))
    assert (await own.identify(_offer(harness, order, authority=authority))).one_time is not None
    foreign = _authentication(harness, None, **ports, otp=_OneTime("otp", knows="carol"))
    with pytest.raises(NotAuthenticated, match="another entity"):
        await foreign.identify(_offer(harness, order, authority=authority))


async def test_a_renewal_rests_on_the_certificate_not_on_a_password(harness: Harness, authority: Authority) -> None:
    ports = {"pass": _Believes("pass"), "cert": _Believes("cert", with_certificate=True)}
    authentication = _authentication(harness, None, **ports)
    order, renewal = [["pass"], ["cert"]], Operation.SIMPLEREENROLL
    identity = await authentication.identify(
        _offer(harness, order, user="device", password="right", authority=authority, operation=renewal)
    )
    assert identity.authenticator == "cert"
    with pytest.raises(NotAuthenticated, match="present the certificate"):
        await authentication.identify(_offer(harness, order, user="device", password="right", operation=renewal))


async def test_known_but_not_here_lets_another_credential_speak(harness: Harness) -> None:
    authentication = _authentication(harness, a=_NotHere(), b=_Believes("b"))
    order = [["a"], ["b"]]
    identity = await authentication.identify(_offer(harness, order, user="device", password="right"))
    assert identity.authenticator == "b"
    with pytest.raises(NotAllowed, match="another path"):
        await authentication.identify(_offer(harness, order))


async def test_without_any_credential_the_refusal_says_what_to_present(harness: Harness) -> None:
    authentication = _authentication(harness, a=_Believes("a"))
    with pytest.raises(NotAuthenticated, match="client certificate in the TLS handshake, or HTTP Basic"):
        await authentication.identify(_offer(harness, [["a"]]))
