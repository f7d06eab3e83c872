"""A plugin for every port that imports nothing but the face. mypy --strict has no objection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from cryptography import x509
from pydantic import Field, SecretStr

from kipuka_core import (
    Allow,
    Approved,
    Asked,
    Authenticator,
    CaBackend,
    CaChain,
    CaProfile,
    CaProfileSettings,
    ClientIdentity,
    ConfigurationError,
    CsrAttributes,
    Deny,
    DenyKind,
    Duration,
    Enrolment,
    Event,
    EventSink,
    Issued,
    KeyStore,
    Label,
    Offer,
    OutcomeUnknown,
    Policy,
    Provider,
    ServerIdentity,
    Services,
    Settings,
    Signer,
    Template,
    TlsMaterial,
    TokenHealth,
    Unavailable,
    Verdict,
    Wait,
    WantedExtension,
    WrongSecret,
    hookimpl,
    issued_by,
    read_certificates,
    read_secret_file,
    signing_hash,
)

kipuka_api_version = 1


class AcornSettings(Settings):
    """Of all of them."""

    file: Path = Field(description="A file.")
    pin: SecretStr | None = Field(default=None, description="A secret.")
    validity: Duration = Field(default=86_400, description="How long.")


class AcornCaSettings(CaProfileSettings):
    """``[[ca]]`` with ``backend = "acorn"``."""

    chain: str = Field(description="A PEM file.")


class AcornAuthenticator(Authenticator):
    """Whoever knows the secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        """By HTTP Basic."""
        if offer.credentials is None:
            return None
        if offer.credentials.password.encode() != self._secret:
            raise WrongSecret(offer.credentials.username)
        return ClientIdentity(authenticator="acorn", entity_id=offer.credentials.username)


class AcornPolicy(Policy):
    """Shapes, judges and advertises."""

    def __init__(self, validity: timedelta) -> None:
        self._validity = validity

    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        """Shorter."""
        return replace(template, not_after=min(template.not_after, enrolment.time + self._validity))

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Any of the three."""
        if enrolment.renewing is not None:
            return Allow()
        if template.san:
            return Wait("a person looks at names", retry_after_seconds=60)
        return Deny(DenyKind.PERMISSION, "only renewals")

    async def advertise(self, label: Label) -> CsrAttributes:
        """One extension."""
        return CsrAttributes(extensions=(WantedExtension("2.5.29.17", b"\x30\x00"),))


class AcornCa(CaBackend):
    """Asks somebody else."""

    external: ClassVar[bool] = True
    finds = True

    def __init__(self, settings: AcornCaSettings, services: Services) -> None:
        self.may_set: CaProfile = settings.ca_profile()
        self._chain = read_certificates([settings.chain], services, "chain")

    async def chain(self) -> CaChain:
        """From a file."""
        return CaChain(certificates=self._chain)

    async def issue(self, approved: Approved) -> Issued | Wait:
        """Away."""
        if not issued_by(self._chain[0], approved.issuer):
            raise Unavailable("away", retry_after_seconds=30)
        return Wait("asked", retry_after_seconds=0, reference="1")

    async def poll(self, asked: Asked) -> Issued | Wait:
        """Unknown."""
        raise OutcomeUnknown(f"no answer about {asked.reference}")

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """Done."""


class AcornKeys(KeyStore):
    """Has none."""

    schemes: ClassVar[tuple[str, ...]] = ("acorn",)

    async def signer(self, key_uri: str) -> Signer:
        """None."""
        raise ConfigurationError(key_uri, "no such key")

    async def tokens(self) -> Sequence[TokenHealth]:
        """One."""
        return [TokenHealth(name="acorn", sessions=1, sessions_open=0, problem="away")]


class AcornTls(TlsMaterial):
    """Two files."""

    async def server_identity(self) -> ServerIdentity:
        """Where they are."""
        return ServerIdentity("server.pem", "server.key")


class AcornSink(EventSink):
    """Forgets."""

    async def emit(self, event: Event) -> None:
        """Nowhere."""
        event.as_dict()


@asynccontextmanager
async def open_authenticator(settings: AcornSettings, services: Services) -> AsyncIterator[AcornAuthenticator]:
    """Reads the secret."""
    secret: bytes = await services.run_blocking(read_secret_file, settings.file, services)
    yield AcornAuthenticator(secret)


@asynccontextmanager
async def open_policy(settings: AcornSettings, services: Services) -> AsyncIterator[AcornPolicy]:
    """Reads nothing."""
    yield AcornPolicy(timedelta(seconds=settings.validity))


@asynccontextmanager
async def open_ca(settings: AcornCaSettings, services: Services) -> AsyncIterator[AcornCa]:
    """Looks at a key, as a CA of one's own does."""
    signer = await services.open_signer("acorn:1")
    signing_hash(signer.private_key)
    yield AcornCa(settings, services)


@asynccontextmanager
async def open_keys(settings: AcornSettings, services: Services) -> AsyncIterator[AcornKeys]:
    """Nothing."""
    yield AcornKeys()


@asynccontextmanager
async def open_tls(settings: AcornSettings, services: Services) -> AsyncIterator[AcornTls]:
    """Nothing."""
    yield AcornTls()


@asynccontextmanager
async def open_sink(settings: AcornSettings, services: Services) -> AsyncIterator[AcornSink]:
    """Nothing."""
    yield AcornSink()


@hookimpl
def kipuka_authenticators() -> list[Provider[Authenticator]]:
    """One."""
    return [Provider("acorn", AcornSettings, open_authenticator)]


@hookimpl
def kipuka_policies() -> list[Provider[Policy]]:
    """One."""
    return [Provider("acorn", AcornSettings, open_policy)]


@hookimpl
def kipuka_ca_backends() -> list[Provider[CaBackend]]:
    """One."""
    return [Provider("acorn", AcornCaSettings, open_ca)]


@hookimpl
def kipuka_key_stores() -> list[Provider[KeyStore]]:
    """One."""
    return [Provider("acorn", AcornSettings, open_keys)]


@hookimpl
def kipuka_tls_material() -> list[Provider[TlsMaterial]]:
    """One."""
    return [Provider("acorn", AcornSettings, open_tls)]


@hookimpl
def kipuka_event_sinks() -> list[Provider[EventSink]]:
    """One."""
    return [Provider("acorn", AcornSettings, open_sink)]
