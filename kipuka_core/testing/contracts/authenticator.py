"""What every authenticator has to do, and what a careless one gets wrong."""
# ruff: noqa: S101 - these are tests: asserts are what they are made of

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from kipuka_core.domain.ports import Authenticator
from kipuka_core.errors import KipukaError, RequestRefused, WrongSecret
from kipuka_core.model.identity import BasicCredentials, ClientIdentity, Offer
from kipuka_core.testing.contracts.asking import (
    PATIENCE_SECONDS,
    asked,
    cancelled_at_every_step,
    check_nothing_shows,
)
from kipuka_core.testing.contracts.loop_turns import loop_goes_round
from kipuka_core.testing.contracts.port import PortContract
from kipuka_core.testing.samples import sample_connection, sample_offer

OpenAuthenticator = Callable[[], AbstractAsyncContextManager[Authenticator]]
ODD_TEXTS = (
    "\0",
    "a\0b",
    "\ud800",
    "Ünïcödé ☃ 用户",
    "a:b",
    "line\r\nX-Header: 1",
    "../../../etc/passwd",
    "' OR '1'='1",
    "%s%n{0}${x}",
    " ",
    "x" * 100_000,
)


async def ask(
    port: Authenticator, offer: Offer, patience_seconds: float = PATIENCE_SECONDS
) -> ClientIdentity | KipukaError | None:
    """The answer to an offer, refusals included. Any other exception fails the test."""
    try:
        return await asked(
            port.authenticate,
            offer,
            expect=(ClientIdentity, type(None)),
            passes=(WrongSecret,),
            patience_seconds=patience_seconds,
        )
    except (WrongSecret, RequestRefused) as refusal:
        return refusal


@pytest.mark.asyncio
class AuthenticatorContract(PortContract):
    """Subclass with ``provider`` and define the fixture ``good_offer() -> Offer``: one that it believes.

    Override the other fixtures as they apply.
    """

    port_type = Authenticator

    @pytest.fixture
    def expected_entity_id(self) -> str:
        """Whom the good offer is by."""
        return "device"

    @pytest.fixture
    def foreign_offers(self) -> Sequence[Offer]:
        """Offers that are somebody else's to judge."""
        return ()

    @pytest.fixture
    def wrong_secret_offers(self) -> Sequence[Offer]:
        """Offers with a known user name and a wrong password."""
        return ()

    @pytest.fixture
    def secrets(self, good_offer: Offer, wrong_secret_offers: Sequence[Offer]) -> Sequence[str]:
        """What must never be seen in a log, an error or a repr."""
        offers = (good_offer, *wrong_secret_offers)
        return [offer.credentials.password for offer in offers if offer.credentials is not None]

    async def test_a_good_offer_gets_a_well_formed_identity(
        self, open_port: OpenAuthenticator, good_offer: Offer, expected_entity_id: str
    ) -> None:
        """Types and forms that the core relies on."""
        async with open_port() as port:
            identity = await ask(port, good_offer, self.patience_seconds)
        assert isinstance(identity, ClientIdentity), f"the good offer is answered with {identity!r}, not an identity"
        assert identity.entity_id == expected_entity_id, "entity_id is not what the fixture expected_entity_id says"
        for each in identity.names:
            kind, _, value = each.partition(":")
            assert kind and value, f'the name {each!r} is not "kind:value", such as "dns:pump-7.example"'  # noqa: PT018
        assert identity.certificate in {None, good_offer.connection.client_certificate}, (
            "the identity rests on another certificate than the client's: give offer.connection.client_certificate"
        )

    async def test_the_same_offer_gets_the_same_identity_again(
        self, open_port: OpenAuthenticator, good_offer: Offer
    ) -> None:
        """Authenticating uses nothing up: the core does that, with the certificate's record."""
        async with open_port() as port:
            first, second = await ask(port, good_offer), await ask(port, good_offer)
            assert first == second, "the same offer has another answer the second time: use nothing up, the core does"

    async def test_an_offer_without_credentials_is_not_mine(self, open_port: OpenAuthenticator) -> None:
        """None, not an exception: the next authenticator has to be asked."""
        async with open_port() as port:
            answer = await ask(port, sample_offer())
            assert answer is None, f"an offer without credentials is answered with {answer!r}: answer None"

    async def test_a_foreign_offer_is_not_mine(
        self, open_port: OpenAuthenticator, foreign_offers: Sequence[Offer]
    ) -> None:
        """None for names and certificates that are unknown here."""
        async with open_port() as port:
            for offer in foreign_offers:
                answer = await ask(port, offer)
                assert answer is None, f"somebody else's offer is answered with {answer!r}: answer None"

    async def test_a_known_name_with_a_wrong_secret_is_a_wrong_secret(
        self, open_port: OpenAuthenticator, wrong_secret_offers: Sequence[Offer]
    ) -> None:
        """None would let the next authenticator guess on, uncounted."""
        async with open_port() as port:
            for offer in wrong_secret_offers:
                answer = await ask(port, offer)
                assert isinstance(answer, WrongSecret), (
                    f"a known name with a wrong secret is answered with {answer!r}: raise WrongSecret(NAME)"
                )
                assert offer.credentials is not None
                assert answer.entity_id == offer.credentials.username, (
                    "WrongSecret does not name the user name that was tried: it is what the lockout counts"
                )

    async def test_wrong_secrets_do_not_lock_out_the_right_one(
        self, open_port: OpenAuthenticator, good_offer: Offer, wrong_secret_offers: Sequence[Offer]
    ) -> None:
        """Locking out is the core's, per address: else anybody could lock out anybody."""
        async with open_port() as port:
            for offer in wrong_secret_offers:
                await ask(port, offer)
            answer = await ask(port, good_offer)
            assert isinstance(answer, ClientIdentity), "wrong secrets lock out the right one: leave that to the core"

    async def test_odd_credentials_are_refused_and_nothing_breaks(
        self, open_port: OpenAuthenticator, good_offer: Offer
    ) -> None:
        """NULs, lone surrogates and huge texts come from the network too."""
        good = good_offer.credentials or BasicCredentials("device", "secret")
        pairs = [BasicCredentials(odd, odd) for odd in ODD_TEXTS]
        pairs += [BasicCredentials(odd, good.password) for odd in ODD_TEXTS]
        pairs += [BasicCredentials(good.username, odd) for odd in ODD_TEXTS]
        pairs += [BasicCredentials(good.username, ""), BasicCredentials("", "")]
        bare = replace(good_offer, connection=sample_connection())
        async with open_port() as port:
            for credentials in pairs:
                answer = await ask(port, replace(bare, credentials=credentials))
                assert not isinstance(answer, ClientIdentity), "odd credentials were believed"
            answer = await ask(port, good_offer)
            assert isinstance(answer, ClientIdentity), "odd credentials stand in the way of good ones"

    async def test_concurrent_offers_get_their_own_answers(
        self,
        open_port: OpenAuthenticator,
        good_offer: Offer,
        foreign_offers: Sequence[Offer],
        wrong_secret_offers: Sequence[Offer],
    ) -> None:
        """State of one request must not show in another's answer."""
        others = [sample_offer(), *foreign_offers, *wrong_secret_offers]
        async with open_port() as port:
            alone = await ask(port, good_offer)
            answers = await asyncio.gather(*(ask(port, offer) for other in others for offer in (good_offer, other)))
        assert answers[::2] == [alone] * len(others), (
            "concurrent offers get other answers than alone: keep nothing of a request in self, in a default argument"
            " or in a global"
        )
        assert not any(isinstance(answer, ClientIdentity) for answer in answers[1::2]), (
            "an offer that is not good is believed beside a good one: keep nothing of a request in self"
        )

    async def test_a_cancelled_request_leaves_the_port_working(
        self, open_port: OpenAuthenticator, good_offer: Offer
    ) -> None:
        """A client that hangs up cancels its request at any await."""
        async with open_port() as port:
            await cancelled_at_every_step(lambda: port.authenticate(good_offer), self.patience_seconds)
            answer = await ask(port, good_offer)
            assert isinstance(answer, ClientIdentity), "a request that was cancelled stands in the way of the next one"

    async def test_it_lets_the_event_loop_go_round(
        self,
        open_port: OpenAuthenticator,
        good_offer: Offer,
        foreign_offers: Sequence[Offer],
        wrong_secret_offers: Sequence[Offer],
    ) -> None:
        """While it waits, everybody else is served."""
        async with open_port() as port:
            with loop_goes_round(self._package):
                for offer in (sample_offer(), good_offer, *foreign_offers, *wrong_secret_offers):
                    await ask(port, offer)
                await port.ping()

    async def test_it_opens_again_after_closing_and_beside_itself(
        self, open_port: OpenAuthenticator, good_offer: Offer
    ) -> None:
        """A reload opens the new one before it closes the old one."""
        async with open_port() as old:
            async with open_port() as new:
                answer = await ask(new, good_offer)
                assert isinstance(answer, ClientIdentity), "a second one, opened beside the first, does not work"
            answer = await ask(old, good_offer)
            assert isinstance(answer, ClientIdentity), "closing the second one has closed the first: share nothing"
        async with open_port() as again:
            assert isinstance(await ask(again, good_offer), ClientIdentity), "closed once, it does not work again"

    async def test_no_secret_is_shown(
        self,
        open_port: OpenAuthenticator,
        good_offer: Offer,
        wrong_secret_offers: Sequence[Offer],
        secrets: Sequence[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Neither in a repr nor in an error nor in the log."""
        caplog.set_level(logging.DEBUG)
        async with open_port() as port:
            answers = [await ask(port, offer) for offer in (good_offer, *wrong_secret_offers)]
            of_the_port = f"{port!r} {vars(port)!r}" if hasattr(port, "__dict__") else repr(port)
        texts = [f"{each!r} {each} {vars(each)!r}" if isinstance(each, KipukaError) else repr(each) for each in answers]
        check_nothing_shows(
            secrets, repr_of_the_port=of_the_port, repr_of_an_answer_or_error="\n".join(texts), the_log=caplog.text
        )
