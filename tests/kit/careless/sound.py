"""Ports without a mistake: what the careless ones inherit from, and what the suites find nothing in."""

from __future__ import annotations

from typing import ClassVar

from kipuka_core import (
    Approved,
    Authenticator,
    CaBackend,
    CaChain,
    ClientIdentity,
    ConfigurationError,
    Event,
    EventSink,
    Issued,
    KeyStore,
    Offer,
    Policy,
    ServerIdentity,
    Signer,
    TlsMaterial,
    WrongSecret,
)
from kipuka_core.testing import pki
from tests.domain.harness import MemoryCa

USER, PASSWORD = "device", "let-me-in"
HIDDEN = "hunter2"
"""A secret of the plugin's own."""
ROOT = pki.make_root("Careless Root CA")
KEY_URI = "sound:key"
EVENTS: list[Event] = []


class SoundAuthenticator(Authenticator):
    """Knows one device."""

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        if offer.credentials is None or offer.credentials.username != USER:
            return None
        if offer.credentials.password != PASSWORD:
            raise WrongSecret(USER)
        return ClientIdentity(authenticator="sound", entity_id=USER)

    def knows(self, offer: Offer) -> bool:
        """Whether this is the good offer."""
        return offer.credentials is not None and offer.credentials.password == PASSWORD


class SoundPolicy(Policy):
    """Lets everything be."""


class SoundCa(CaBackend):
    """Signs in memory."""

    def __init__(self) -> None:
        self.signing = MemoryCa(ROOT)

    async def chain(self) -> CaChain:
        return CaChain(certificates=ROOT.chain)

    async def issue(self, approved: Approved) -> Issued:
        ends = min(approved.template.not_after, ROOT.certificate.not_valid_after_utc)
        return Issued(self.signing.sign(approved, not_after=ends))


class SoundKeyStore(KeyStore):
    """Has one key."""

    schemes: ClassVar[tuple[str, ...]] = ("sound",)

    async def signer(self, key_uri: str) -> Signer:
        if key_uri != KEY_URI:
            raise ConfigurationError(key_uri, "there is no such key here")
        return Signer(ROOT.key)


class SoundSink(EventSink):
    """Keeps events in memory."""

    def __init__(self) -> None:
        self.is_open = True

    async def emit(self, event: Event) -> None:
        if not self.is_open:
            raise RuntimeError("this sink is closed")
        EVENTS.append(event)


class SoundTls(TlsMaterial):
    """Names two files."""

    def __init__(self, certificate_file: str, key_file: str) -> None:
        self.files = certificate_file, key_file

    async def server_identity(self) -> ServerIdentity:
        return ServerIdentity(*self.files)
