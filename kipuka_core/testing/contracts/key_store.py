"""What every key store has to do, and what a careless one gets wrong."""
# ruff: noqa: S101 - these are tests: asserts are what they are made of

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)

from kipuka_core.domain.ca_ports import Signer
from kipuka_core.domain.guard import called, raised
from kipuka_core.domain.ports import KeyStore
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing.contracts.asking import (
    PATIENCE_SECONDS,
    asked,
    cancelled_at_every_step,
    check_nothing_shows,
)
from kipuka_core.testing.contracts.loop_turns import loop_goes_round
from kipuka_core.testing.contracts.port import PortContract
from kipuka_core.testing.pki import name
from kipuka_core.testing.samples import NOW

KEY_TYPES: tuple[type, ...] = get_args(CertificateIssuerPrivateKeyTypes)
OpenKeyStore = Callable[[], AbstractAsyncContextManager[KeyStore]]


async def refusal(port: KeyStore, key_uri: str) -> ConfigurationError:
    """The error that opening this URI ends in."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await port.signer(key_uri)
    except ConfigurationError as error:
        return error
    except Exception as error:
        raise AssertionError(
            f"{called(port.signer)} {raised(error, port.signer)}: raise ConfigurationError(URI, PROBLEM) for what"
            " cannot be opened"
        ) from error
    pytest.fail(f"{called(port.signer)} opened {key_uri}, which cannot be opened")


async def opened(port: KeyStore, key_uri: str) -> Signer:
    """The signer of a key that exists."""
    signer = await asked(port.signer, key_uri, expect=Signer)
    assert isinstance(signer.private_key, KEY_TYPES), (
        f"private_key is a {type(signer.private_key).__name__}: it has to implement one of the private key classes of"
        " cryptography, such as ec.EllipticCurvePrivateKey"
    )
    return signer


def self_signed(key: CertificateIssuerPrivateKeyTypes) -> x509.Certificate:
    """A certificate by this key for itself, made as a CA makes one."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("key store"))
        .issuer_name(name("key store"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    return builder.sign(key, signing_hash(key))


@pytest.mark.asyncio
class KeyStoreContract(PortContract):
    """Subclass with ``provider`` and define the fixtures ``key_uri() -> str`` and ``public_key()``: a key that exists.

    Override the other fixtures as they apply.
    """

    port_type = KeyStore

    @pytest.fixture
    def refused_uris(self) -> Sequence[str]:
        """URIs that cannot be opened: no such key, a wrong password, a damaged object."""
        return ()

    @pytest.fixture
    def new_key_uri(self) -> str | None:
        """Where a key can be made; None for a store that makes none."""
        return None

    @pytest.fixture
    def key_types(self) -> Sequence[str]:
        """What can be made at ``new_key_uri``; the first is made."""
        return ("ecdsa256",)

    async def test_a_signer_signs_certificates_with_its_key(
        self, open_port: OpenKeyStore, key_uri: str, public_key: CertificatePublicKeyTypes
    ) -> None:
        """The key object has to do in ``CertificateBuilder.sign``, wherever the key lives."""
        async with open_port() as port:
            signer = await opened(port, key_uri)
            assert signer.private_key.public_key() == public_key, "the signer's key is another one than public_key"
            certificate = self_signed(signer.private_key)
            certificate.verify_directly_issued_by(certificate)

    async def test_a_key_is_opened_many_times_at_once(
        self, open_port: OpenKeyStore, key_uri: str, public_key: CertificatePublicKeyTypes
    ) -> None:
        """Several CAs may share a store, and a key."""
        async with open_port() as port:
            signers = await asyncio.gather(*(port.signer(key_uri) for _ in range(8)))
            assert all(signer.private_key.public_key() == public_key for signer in signers)

    async def test_a_signer_is_used_by_several_threads_at_once(self, open_port: OpenKeyStore, key_uri: str) -> None:
        """Slow signatures are made in worker threads."""
        async with open_port() as port:
            signer = await port.signer(key_uri)
            made = await asyncio.gather(*(asyncio.to_thread(self_signed, signer.private_key) for _ in range(8)))
        for certificate in made:
            certificate.verify_directly_issued_by(certificate)

    async def test_what_cannot_be_opened_is_an_error_of_one_line(
        self, open_port: OpenKeyStore, refused_uris: Sequence[str]
    ) -> None:
        """It is shown at start-up, to the person who has to change something."""
        async with open_port() as port:
            for uri in refused_uris:
                error = await refusal(port, uri)
                assert error.where, f"the error does not say where: ConfigurationError(URI, PROBLEM), not {error}"
                assert error.problem, (
                    f"the error does not say what is wrong: ConfigurationError({error.where}, PROBLEM)"
                )
                assert len(str(error).splitlines()) == 1, f"the error is not one line: {error}"

    async def test_a_refused_key_does_not_spoil_a_good_one(
        self, open_port: OpenKeyStore, key_uri: str, refused_uris: Sequence[str]
    ) -> None:
        """Wrong PINs and broken sessions stay with the request that met them."""
        async with open_port() as port:
            for uri in refused_uris:
                await refusal(port, uri)
            await opened(port, key_uri)

    async def test_a_cancelled_opening_leaves_the_store_working(self, open_port: OpenKeyStore, key_uri: str) -> None:
        """Start-up may be interrupted at any await."""
        async with open_port() as port:
            await cancelled_at_every_step(lambda: port.signer(key_uri), self.patience_seconds)
            await opened(port, key_uri)

    async def test_it_lets_the_event_loop_go_round(self, open_port: OpenKeyStore, key_uri: str) -> None:
        """A start that waits for a token can still be ended."""
        async with open_port() as port:
            with loop_goes_round(self._package):
                await opened(port, key_uri)
                await port.tokens()
                await port.ping()

    async def test_it_opens_again_after_closing_and_beside_itself(self, open_port: OpenKeyStore, key_uri: str) -> None:
        """A reload opens the new one before it closes the old one."""
        async with open_port() as old:
            async with open_port() as new:
                await new.signer(key_uri)
            await old.signer(key_uri)
        async with open_port() as again:
            await again.signer(key_uri)

    async def test_a_new_key_is_made_once_and_never_overwritten(
        self, open_port: OpenKeyStore, new_key_uri: str | None, key_types: Sequence[str]
    ) -> None:
        """An overwritten CA key is a lost CA."""
        if new_key_uri is None:
            return
        async with open_port() as port:
            made = await port.generate(new_key_uri, key_types[0])
            assert isinstance(made, Signer), f"generate answers with {made!r}: it has to answer with a Signer"
            with pytest.raises(ConfigurationError):
                await port.generate(new_key_uri, key_types[0])
            found = await port.signer(new_key_uri)
            assert found.private_key.public_key() == made.private_key.public_key()

    async def test_a_key_type_that_nobody_knows_is_a_configuration_error(
        self, open_port: OpenKeyStore, new_key_uri: str | None, key_types: Sequence[str]
    ) -> None:
        """And nothing is left behind that would be in the way of the right one."""
        if new_key_uri is None:
            return
        async with open_port() as port:
            with pytest.raises(ConfigurationError):
                await port.generate(new_key_uri, "rot13")
            await port.generate(new_key_uri, key_types[0])

    async def test_no_secret_is_shown(
        self,
        open_port: OpenKeyStore,
        key_uri: str,
        refused_uris: Sequence[str],
        secrets: Sequence[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Neither in a repr nor in an error nor in the log."""
        caplog.set_level(logging.DEBUG)
        async with open_port() as port:
            of_the_port, of_the_signer = repr(port), repr(await opened(port, key_uri))
            errors = [await refusal(port, uri) for uri in refused_uris]
        check_nothing_shows(
            secrets,
            repr_of_the_port=of_the_port,
            repr_of_a_signer=of_the_signer,
            an_error=" ".join(f"{error} {error!r}" for error in errors),
            the_log=caplog.text,
        )
