"""What every provider of TLS material has to do, and what a careless one gets wrong."""
# ruff: noqa: S101 - these are tests: asserts are what they are made of

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from kipuka_core.domain.ports import ServerIdentity, TlsMaterial
from kipuka_core.errors import ConfigurationError
from kipuka_core.testing.contracts.asking import (
    PATIENCE_SECONDS,
    asked,
    cancelled_at_every_step,
    check_nothing_shows,
)
from kipuka_core.testing.contracts.loop_turns import loop_goes_round
from kipuka_core.testing.contracts.port import PortContract

OpenMaterial = Callable[[], AbstractAsyncContextManager[TlsMaterial]]
_POLL_SECONDS = 0.02


def serve_with(identity: ServerIdentity) -> ssl.SSLContext:
    """Load the material as a listener does. Raises OSError or ssl.SSLError when it does not fit together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate_file, identity.key_file, identity.key_password or b"")
    return context


async def ask(port: TlsMaterial) -> ServerIdentity:
    """Ask, but not for ever."""
    return await asked(port.server_identity, expect=ServerIdentity)


def check_it_serves(identity: ServerIdentity) -> None:
    """Assert that a listener can use it."""
    for file in (identity.certificate_file, identity.key_file):
        assert Path(file).is_file(), f"server_identity names {file}, where there is no file: write it before you answer"
    try:
        serve_with(identity)
    except (OSError, ssl.SSLError) as error:
        raise AssertionError(
            f"a listener cannot serve with what server_identity names ({error}): certificate, key and password have to"
            " belong together"
        ) from error


async def look_after(port: TlsMaterial) -> bool:
    """One round of upkeep, but not for ever."""
    return await asked(port.upkeep, expect=bool)


async def look_after_until_renewed(port: TlsMaterial) -> None:
    """Upkeep as a process of the server does it; a renewal may take several rounds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await look_after(port):
        assert time.monotonic() < deadline, "upkeep renews nothing"
        await asyncio.sleep(_POLL_SECONDS)


@pytest.mark.asyncio
class TlsMaterialContract(PortContract):
    """Subclass with ``provider``, and override the fixtures as they apply."""

    port_type = TlsMaterial

    @pytest.fixture
    def renew(self) -> Callable[[], None] | None:
        """Puts another certificate and key in place; None where that cannot be done."""
        return None

    @pytest.fixture
    def make_due(self) -> Callable[[], None] | None:
        """Lets upkeep find something to renew; None for material that changes only when the operator says so."""
        return None

    @pytest.fixture
    def break_it(self) -> Callable[[], None] | None:
        """Makes the material unusable; None where that cannot be done."""
        return None

    async def test_a_listener_can_serve_with_it(self, open_port: OpenMaterial) -> None:
        """Certificate, key and password belong together."""
        async with open_port() as port:
            check_it_serves(await ask(port))

    async def test_it_answers_many_at_once(self, open_port: OpenMaterial) -> None:
        """Listeners and health pages ask independently."""
        async with open_port() as port:
            answers = await asyncio.gather(*(ask(port) for _ in range(8)))
            for answer in answers:
                check_it_serves(answer)

    async def test_it_lets_the_event_loop_go_round(self, open_port: OpenMaterial) -> None:
        """It is asked while the server serves."""
        async with open_port() as port:
            with loop_goes_round(self._package):
                await ask(port)
                await look_after(port)
                await port.ping()

    async def test_it_is_asked_again_after_a_renewal(
        self, open_port: OpenMaterial, renew: Callable[[], None] | None
    ) -> None:
        """A reload serves the new certificate: nothing of the old answer may be kept."""
        if renew is None:
            return
        async with open_port() as port:
            before = Path((await ask(port)).certificate_file).read_bytes()  # noqa: ASYNC240 - a test may block
            renew()
            after = await ask(port)
            serve_with(after)
            assert Path(after.certificate_file).read_bytes() != before  # noqa: ASYNC240 - a test may block

    async def test_upkeep_has_nothing_new_when_nothing_is_due(self, open_port: OpenMaterial) -> None:
        """Every process asks every few seconds: the first answer is the one that was served at the start."""
        async with open_port() as port:
            before = await ask(port)
            assert [await look_after(port) for _ in range(3)] == [False] * 3, (
                "upkeep says that there is something new when nothing is due: it is served anew each time"
            )
            assert await ask(port) == before, "upkeep said that nothing is new, and server_identity answers otherwise"

    async def test_upkeep_says_once_that_there_is_something_new(
        self, open_port: OpenMaterial, make_due: Callable[[], None] | None
    ) -> None:
        """What it announces can be served when it returns, and is another certificate."""
        if make_due is None:
            return
        async with open_port() as port:
            before = Path((await ask(port)).certificate_file).read_bytes()  # noqa: ASYNC240 - a test may block
            make_due()
            await look_after_until_renewed(port)
            after = await ask(port)
            serve_with(after)
            assert Path(after.certificate_file).read_bytes() != before  # noqa: ASYNC240 - a test may block
            assert [await look_after(port) for _ in range(3)] == [False] * 3

    async def test_upkeep_tells_every_process(
        self, open_port: OpenMaterial, make_due: Callable[[], None] | None
    ) -> None:
        """Several processes have the same material open; one of them renews, and each has to hear of it."""
        if make_due is None:
            return
        async with open_port() as one, open_port() as other:
            await ask(one)
            await ask(other)
            make_due()
            await look_after_until_renewed(one)
            await look_after_until_renewed(other)
            first, second = await ask(one), await ask(other)
            assert first == second
            assert [await look_after(one), await look_after(other)] == [False, False]

    async def test_upkeep_tells_of_what_was_asked_for_in_between(
        self, open_port: OpenMaterial, make_due: Callable[[], None] | None
    ) -> None:
        """A reload that is given up after it has asked serves nothing of it: the news are still to be announced."""
        if make_due is None:
            return
        async with open_port() as port:
            await ask(port)
            make_due()
            await ask(port)
            await look_after_until_renewed(port)

    async def test_upkeep_that_is_cancelled_leaves_it_working(
        self, open_port: OpenMaterial, make_due: Callable[[], None] | None
    ) -> None:
        """A process stops, or the answer comes too late: the next round does it."""
        if make_due is None:
            return
        async with open_port() as port:
            make_due()
            await cancelled_at_every_step(port.upkeep, self.patience_seconds)
            check_it_serves(await ask(port))

    async def test_unusable_material_is_an_error_of_one_line(
        self, open_port: OpenMaterial, break_it: Callable[[], None] | None
    ) -> None:
        """At a reload the listener goes on with what it has, and says this line."""
        if break_it is None:
            return
        async with open_port() as port:
            break_it()
            with pytest.raises(ConfigurationError) as caught:
                await port.server_identity()
            assert len(str(caught.value).splitlines()) == 1, f"the error is not one line: {caught.value}"
            assert caught.value.where, "the error does not say where: ConfigurationError(FILE, PROBLEM)"

    async def test_a_cancelled_question_leaves_it_working(self, open_port: OpenMaterial) -> None:
        """A reload may be interrupted."""
        async with open_port() as port:
            await cancelled_at_every_step(port.server_identity, self.patience_seconds)
            check_it_serves(await ask(port))

    async def test_it_opens_again_after_closing_and_beside_itself(self, open_port: OpenMaterial) -> None:
        """A reload opens the new one before it closes the old one."""
        async with open_port() as old:
            async with open_port() as new:
                check_it_serves(await ask(new))
            check_it_serves(await ask(old))
        async with open_port() as again:
            check_it_serves(await ask(again))

    async def test_no_secret_is_shown(
        self, open_port: OpenMaterial, secrets: Sequence[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither in a repr nor in the log."""
        caplog.set_level(logging.DEBUG)
        async with open_port() as port:
            of_the_identity, of_the_port = repr(await ask(port)), repr(port)
        check_nothing_shows(
            secrets, repr_of_the_identity=of_the_identity, repr_of_the_port=of_the_port, the_log=caplog.text
        )
