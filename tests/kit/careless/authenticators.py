"""Mistakes of authenticators: nobody is believed for them, and the client is told nothing of it."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kipuka_core import ClientIdentity, Offer
from kipuka_core.testing.pki import make_root
from tests.kit.careless.sound import PASSWORD, USER, SoundAuthenticator
from tests.kit.careless.table import AtRequest, Careless, Contract, Unseen

_GOOD = "test_a_good_offer_gets_a_well_formed_identity"
TIMEOUT_SECONDS = 1
"""``[plugins] timeout`` of the servers that these are tried in."""


class _Answers(SoundAuthenticator):
    """Answers the good offer with something else."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def authenticate(self, offer: Offer) -> Any:
        identity = await super().authenticate(offer)
        return identity and self.answer


class _Alters(SoundAuthenticator):
    """Answers with an identity that has other fields."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    async def authenticate(self, offer: Offer) -> Any:
        identity = await super().authenticate(offer)
        return identity and replace(identity, **self.fields)


class _RaisesKeyError(SoundAuthenticator):
    async def authenticate(self, offer: Offer) -> Any:
        if offer.credentials is None:
            return None
        devices: dict[str, ClientIdentity] = {}
        return devices[offer.credentials.password]


class _Raises(SoundAuthenticator):
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    async def authenticate(self, offer: Offer) -> Any:
        if self.knows(offer):
            raise self.error(PASSWORD)
        return await super().authenticate(offer)


class _NotAnException(BaseException):
    """What `except Exception` does not catch."""


class _CallsExit(SoundAuthenticator):
    async def authenticate(self, offer: Offer) -> Any:
        if self.knows(offer):
            sys.exit(0)
        return None


class _Hangs(SoundAuthenticator):
    async def authenticate(self, offer: Offer) -> Any:
        if self.knows(offer):
            await asyncio.Event().wait()
        return None


class _Sleeps(SoundAuthenticator):
    async def authenticate(self, offer: Offer) -> Any:
        if self.knows(offer):
            time.sleep(TIMEOUT_SECONDS * 1.5)  # noqa: ASYNC251  # its mistake
        return await super().authenticate(offer)


class _SwallowsCancellation(SoundAuthenticator):
    async def authenticate(self, offer: Offer) -> Any:
        if self.knows(offer):
            with suppress(BaseException):
                await asyncio.Event().wait()
        return await super().authenticate(offer)


class _GoesOnAfterCancellations(SoundAuthenticator):
    async def authenticate(self, offer: Offer) -> Any:
        for _ in range(3 if self.knows(offer) else 0):
            try:
                await asyncio.Event().wait()
            except BaseException:  # noqa: BLE001  # its mistake
                continue
        return await super().authenticate(offer)


class _RemembersInADefault(SoundAuthenticator):
    async def authenticate(self, offer: Offer, seen: list[ClientIdentity] = []) -> Any:  # noqa: B006  # its mistake
        identity = await super().authenticate(offer)
        if identity is not None:
            seen.append(identity)
        await asyncio.sleep(0)
        return seen[-1] if seen else None


def _row(
    mistake: str, make: Any, says: str, *, test: str = _GOOD, contract_says: str = "", status: int = 500
) -> Careless:
    return Careless(
        mistake=mistake,
        port=make,
        contract=Contract(test=test, says=contract_says or says),
        server=AtRequest(status=status, logs=says),
    )


_WRONG_TYPE = "_Answers.authenticate answered with {}; it has to answer with ClientIdentity or None"
ROWS = [
    _row("authenticate returns True", lambda: _Answers(True), _WRONG_TYPE.format("bool")),
    _row("authenticate returns a name", lambda: _Answers(USER), _WRONG_TYPE.format("str")),
    _row("authenticate returns a dict", lambda: _Answers({"entity_id": USER}), _WRONG_TYPE.format("dict")),
    _row(
        "authenticate returns a class", lambda: _Answers(ClientIdentity), _WRONG_TYPE.format("the class ClientIdentity")
    ),
    _row(
        "the entity id is empty",
        lambda: _Alters(entity_id=""),
        "whose entity_id cannot be one: it is empty; give the name of the device, or answer None",
    ),
    _row(
        "the entity id holds a colon",
        lambda: _Alters(entity_id="urn:dev:1"),
        "whose entity_id cannot be one: it holds a colon",
    ),
    _row(
        "the entity id is a number",
        lambda: _Alters(entity_id=7),
        "whose entity_id is a int; give the name of the device, a str",
    ),
    _row(
        "names is a list",
        lambda: _Alters(names=["dns:device"]),
        'whose names are no frozenset of "kind:value", such as',
    ),
    _row(
        "names have no kind",
        lambda: _Alters(names=frozenset({"device.example"})),
        'whose names are no frozenset of "kind:value", such as',
    ),
    _row(
        "the certificate is another one than the client's",
        lambda: _Alters(certificate=make_root().certificate),
        "an identity that rests on another certificate than the client's; give offer.connection.client_certificate",
        contract_says="the identity rests on another certificate than the client's: give offer.connection",
    ),
    _row("authenticate raises KeyError", _RaisesKeyError, "_RaisesKeyError.authenticate raised KeyError in line"),
    _row("authenticate calls sys.exit()", _CallsExit, "_CallsExit.authenticate raised SystemExit in line"),
    _row(
        "authenticate raises what is no Exception",
        lambda: _Raises(_NotAnException),
        "_Raises.authenticate raised _NotAnException in line",
    ),
    _row(
        "authenticate hangs",
        _Hangs,
        f"_Hangs.authenticate gave no answer within {TIMEOUT_SECONDS} s",
        contract_says="_Hangs.authenticate gave no answer within",
    ),
    _row(
        "authenticate blocks the event loop",
        _Sleeps,
        f"_Sleeps.authenticate gave no answer within {TIMEOUT_SECONDS} s, and the event loop stood still",
        test="test_it_lets_the_event_loop_go_round",
        contract_says="the event loop stood still: time.sleep is called in line",
    ),
    _row(
        "authenticate swallows its cancellation",
        _SwallowsCancellation,
        f"_SwallowsCancellation.authenticate gave no answer within {TIMEOUT_SECONDS} s",
        test="test_a_cancelled_request_leaves_the_port_working",
        contract_says="it was cancelled and answered all the same: let asyncio.CancelledError pass",
    ),
    _row(
        "authenticate goes on after cancellations",
        _GoesOnAfterCancellations,
        "_GoesOnAfterCancellations.authenticate was cancelled after 1 s and goes on: it has to let",
        test="test_a_cancelled_request_leaves_the_port_working",
        contract_says="it was cancelled and goes on: let asyncio.CancelledError pass",
    ),
    Careless(
        mistake="a default argument is shared by requests",
        port=_RemembersInADefault,
        contract=Contract(
            test="test_concurrent_offers_get_their_own_answers",
            says="an offer that is not good is believed beside a good one: keep nothing of a request in self",
        ),
        server=Unseen(because="whom to believe is what the plugin is asked"),
    ),
]
