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
from kipuka_core.testing.contracts.port import PATIENCE_SECONDS, PortContract

OpenMaterial = Callable[[], AbstractAsyncContextManager[TlsMaterial]]
_POLL_SECONDS = 0.02


def serve_with(identity: ServerIdentity) -> ssl.SSLContext:
    """Load the material as a listener does. Raises OSError or ssl.SSLError when it does not fit together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate_file, identity.key_file, identity.key_password or b"")
    return context


async def ask(port: TlsMaterial) -> ServerIdentity:
    """Ask, but not for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await port.server_identity()


async def look_after(port: TlsMaterial) -> bool:
    """One round of upkeep, but not for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await port.upkeep()
    assert type(answer) is bool
    return answer


async def look_after_until_renewed(port: TlsMaterial) -> None:
    """Upkeep as a process of the server does it; a renewal may take several rounds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await look_after(port):
        assert time.monotonic() < deadline, "upkeep renews nothing"
        await asyncio.sleep(_POLL_SECONDS)


@pytest.mark.asyncio
class TlsMaterialContract(PortContract):
    """Subclass with ``provider``, and override the fixtures as they apply."""

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

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        """Passwords: never to be seen in a log, an error or a repr."""
        return ()

    async def test_a_listener_can_serve_with_it(self, open_port: OpenMaterial) -> None:
        """Certificate, key and password belong together."""
        async with open_port() as port:
            assert isinstance(port, TlsMaterial)
            await port.ping()
            identity = await ask(port)
            assert type(identity) is ServerIdentity
            assert identity.key_password is None or type(identity.key_password) is bytes
            serve_with(identity)

    async def test_it_answers_many_at_once(self, open_port: OpenMaterial) -> None:
        """Listeners and health pages ask independently."""
        async with open_port() as port:
            answers = await asyncio.gather(*(ask(port) for _ in range(8)))
            for answer in answers:
                serve_with(answer)

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
            assert [await look_after(port) for _ in range(3)] == [False] * 3
            assert await ask(port) == before

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
            for steps in range(4):
                task = asyncio.create_task(port.upkeep())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            serve_with(await ask(port))

    async def test_unusable_material_is_an_error_of_one_line(
        self, open_port: OpenMaterial, break_it: Callable[[], None] | None
    ) -> None:
        """At a reload the listener goes on with what it has, and says this line."""
        if break_it is None:
            return
        async with open_port() as port:
            break_it()
            with pytest.raises(ConfigurationError) as caught:
                await ask(port)
            assert len(str(caught.value).splitlines()) == 1
            assert caught.value.where

    async def test_a_cancelled_question_leaves_it_working(self, open_port: OpenMaterial) -> None:
        """A reload may be interrupted."""
        async with open_port() as port:
            for steps in range(4):
                task = asyncio.create_task(port.server_identity())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            serve_with(await ask(port))

    async def test_it_opens_again_after_closing_and_beside_itself(self, open_port: OpenMaterial) -> None:
        """A reload opens the new one before it closes the old one."""
        async with open_port() as old:
            async with open_port() as new:
                serve_with(await ask(new))
            serve_with(await ask(old))
        async with open_port() as again:
            serve_with(await ask(again))

    async def test_no_secret_is_shown(
        self, open_port: OpenMaterial, secrets: Sequence[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither in a repr nor in the log."""
        caplog.set_level(logging.DEBUG)
        async with open_port() as port:
            shown = [repr(await ask(port)), repr(port), caplog.text]
        assert not [secret for secret in secrets if any(secret in text for text in shown)]
