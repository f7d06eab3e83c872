"""What every authenticator has to do, and what a careless one gets wrong."""
# ruff: noqa: S101 - these are tests: asserts are what they are made of

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from kipuka_core.domain.ports import Authenticator
from kipuka_core.errors import KipukaError, RequestRefused, WrongSecret
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.identity import BasicCredentials, ClientIdentity, Offer
from kipuka_core.testing.contracts.port import PATIENCE_SECONDS, PortContract
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


async def ask(port: Authenticator, offer: Offer) -> ClientIdentity | KipukaError | None:
    """The answer to an offer, refusals included. Any other exception fails the test."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await port.authenticate(offer)
    except (WrongSecret, RequestRefused) as refusal:
        return refusal


@pytest.mark.asyncio
class AuthenticatorContract(PortContract):
    """Subclass with ``provider`` and define the fixture ``good_offer() -> Offer``: one that it believes.

    Override the other fixtures as they apply.
    """

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

    async def test_authenticate_is_a_coroutine_method(self, open_port: OpenAuthenticator) -> None:
        """A method that returns an answer without being awaited blocks the event loop."""
        async with open_port() as port:
            assert isinstance(port, Authenticator)
            assert inspect.iscoroutinefunction(port.authenticate)
            await port.ping()

    async def test_a_good_offer_gets_a_well_formed_identity(
        self, open_port: OpenAuthenticator, good_offer: Offer, expected_entity_id: str
    ) -> None:
        """Types and forms that the core relies on."""
        async with open_port() as port:
            identity = await ask(port, good_offer)
        assert type(identity) is ClientIdentity
        assert identity.entity_id == expected_entity_id
        assert entity_id_problem(identity.entity_id) is None
        assert identity.authenticator
        assert type(identity.names) is frozenset
        assert all(kind and colon and value for kind, colon, value in (name.partition(":") for name in identity.names))
        assert identity.certificate in {None, good_offer.connection.client_certificate}

    async def test_the_same_offer_gets_the_same_identity_again(
        self, open_port: OpenAuthenticator, good_offer: Offer
    ) -> None:
        """Authenticating uses nothing up: the core does that, with the certificate's record."""
        async with open_port() as port:
            assert await ask(port, good_offer) == await ask(port, good_offer)

    async def test_an_offer_without_credentials_is_not_mine(self, open_port: OpenAuthenticator) -> None:
        """None, not an exception: the next authenticator has to be asked."""
        async with open_port() as port:
            assert await ask(port, sample_offer()) is None

    async def test_a_foreign_offer_is_not_mine(
        self, open_port: OpenAuthenticator, foreign_offers: Sequence[Offer]
    ) -> None:
        """None for names and certificates that are unknown here."""
        async with open_port() as port:
            assert [await ask(port, offer) for offer in foreign_offers] == [None] * len(foreign_offers)

    async def test_a_known_name_with_a_wrong_secret_is_a_wrong_secret(
        self, open_port: OpenAuthenticator, wrong_secret_offers: Sequence[Offer]
    ) -> None:
        """None would let the next authenticator guess on, uncounted."""
        async with open_port() as port:
            for offer in wrong_secret_offers:
                answer = await ask(port, offer)
                assert isinstance(answer, WrongSecret)
                assert offer.credentials is not None
                assert answer.entity_id == offer.credentials.username

    async def test_wrong_secrets_do_not_lock_out_the_right_one(
        self, open_port: OpenAuthenticator, good_offer: Offer, wrong_secret_offers: Sequence[Offer]
    ) -> None:
        """Locking out is the core's, per address: else anybody could lock out anybody."""
        async with open_port() as port:
            for offer in wrong_secret_offers:
                await ask(port, offer)
            assert isinstance(await ask(port, good_offer), ClientIdentity)

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
            assert isinstance(await ask(port, good_offer), ClientIdentity)

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
        assert answers[::2] == [alone] * len(others)
        assert not any(isinstance(answer, ClientIdentity) for answer in answers[1::2])

    async def test_a_cancelled_request_leaves_the_port_working(
        self, open_port: OpenAuthenticator, good_offer: Offer
    ) -> None:
        """A client that hangs up cancels its request at any await."""
        async with open_port() as port:
            for steps in range(4):
                task = asyncio.create_task(ask(port, good_offer))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            assert isinstance(await ask(port, good_offer), ClientIdentity)

    async def test_it_opens_again_after_closing_and_beside_itself(
        self, open_port: OpenAuthenticator, good_offer: Offer
    ) -> None:
        """A reload opens the new one before it closes the old one."""
        async with open_port() as old:
            async with open_port() as new:
                assert isinstance(await ask(new, good_offer), ClientIdentity)
            assert isinstance(await ask(old, good_offer), ClientIdentity)
        async with open_port() as again:
            assert isinstance(await ask(again, good_offer), ClientIdentity)

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
            shown = [repr(port), repr(vars(port)) if hasattr(port, "__dict__") else "", caplog.text]
        for answer in answers:
            shown += [repr(answer), str(answer), repr(vars(answer)) if isinstance(answer, KipukaError) else ""]
        assert not [secret for secret in secrets if secret and any(secret in text for text in shown)]
