"""What every key store has to do, and what a careless one gets wrong."""
# ruff: noqa: S101 - these are tests: asserts are what they are made of

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)

from kipuka_core.domain.ca_ports import Signer
from kipuka_core.domain.ports import KeyStore
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing.contracts.port import PATIENCE_SECONDS, PortContract
from kipuka_core.testing.pki import name
from kipuka_core.testing.samples import NOW

OpenKeyStore = Callable[[], AbstractAsyncContextManager[KeyStore]]


async def refusal(port: KeyStore, key_uri: str) -> ConfigurationError:
    """The error that opening this URI ends in."""
    with pytest.raises(ConfigurationError) as caught:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await port.signer(key_uri)
    return caught.value


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

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        """PINs and passwords: never to be seen in a log, an error or a repr."""
        return ()

    async def test_it_names_its_schemes(self, open_port: OpenKeyStore) -> None:
        """They decide which URIs come here, and are compared in lower case."""
        async with open_port() as port:
            assert isinstance(port, KeyStore)
            assert port.schemes
            assert all(scheme == scheme.lower().rstrip(":") for scheme in port.schemes)
            await port.ping()

    async def test_a_signer_signs_certificates_with_its_key(
        self, open_port: OpenKeyStore, key_uri: str, public_key: CertificatePublicKeyTypes
    ) -> None:
        """The key object has to do in ``CertificateBuilder.sign``, wherever the key lives."""
        async with open_port() as port:
            signer = await port.signer(key_uri)
            assert type(signer) is Signer
            assert signer.private_key.public_key() == public_key
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
                assert error.where
                assert error.problem
                assert len(str(error).splitlines()) == 1, str(error)

    async def test_a_refused_key_does_not_spoil_a_good_one(
        self, open_port: OpenKeyStore, key_uri: str, refused_uris: Sequence[str]
    ) -> None:
        """Wrong PINs and broken sessions stay with the request that met them."""
        async with open_port() as port:
            for uri in refused_uris:
                await refusal(port, uri)
            assert type(await port.signer(key_uri)) is Signer

    async def test_a_cancelled_opening_leaves_the_store_working(self, open_port: OpenKeyStore, key_uri: str) -> None:
        """Start-up may be interrupted at any await."""
        async with open_port() as port:
            for steps in range(4):
                task = asyncio.create_task(port.signer(key_uri))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            assert type(await port.signer(key_uri)) is Signer

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
            assert type(made) is Signer
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
            shown = [repr(await port.signer(key_uri)), repr(port)]
            shown += [f"{error} {error!r}" for error in [await refusal(port, uri) for uri in refused_uris]]
        shown.append(caplog.text)
        assert not [secret for secret in secrets if any(secret in text for text in shown)]
