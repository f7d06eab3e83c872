"""A contract suite for every row, for a run of pytest of its own: ``TestSound…``, and ``Test_ROW`` for each mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from kipuka_core import Offer, Provider, Services, Settings
from kipuka_core.testing.contracts.authenticator import AuthenticatorContract
from kipuka_core.testing.contracts.ca_backend import CaBackendContract
from kipuka_core.testing.contracts.event_sink import EventSinkContract
from kipuka_core.testing.contracts.key_store import KeyStoreContract
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.contracts.port import PortContract
from kipuka_core.testing.contracts.tls_material import TlsMaterialContract
from kipuka_core.testing.samples import sample_offer, write_private
from kipuka_core.testing.services import make_services
from tests.kit.careless.openings import opened_and_closed
from tests.kit.careless.plugins import ROWS
from tests.kit.careless.sound import (
    EVENTS,
    KEY_URI,
    PASSWORD,
    ROOT,
    USER,
    SoundAuthenticator,
    SoundCa,
    SoundKeyStore,
    SoundPolicy,
    SoundSink,
    SoundTls,
)
from tests.kit.careless.table import Careless, opening

_IMPATIENT_SECONDS = 2.0


class _Authenticator(AuthenticatorContract):
    @pytest.fixture
    def good_offer(self) -> Offer:
        return sample_offer(username=USER, password=PASSWORD)

    @pytest.fixture
    def foreign_offers(self) -> Sequence[Offer]:
        return [sample_offer(username="somebody-else", password="x")]

    @pytest.fixture
    def wrong_secret_offers(self) -> Sequence[Offer]:
        return [sample_offer(username=USER, password="guessed")]


class _KeyStore(KeyStoreContract):
    @pytest.fixture
    def key_uri(self) -> str:
        return KEY_URI

    @pytest.fixture
    def public_key(self) -> CertificatePublicKeyTypes:
        return ROOT.key.public_key()

    @pytest.fixture
    def refused_uris(self) -> Sequence[str]:
        return ["sound:none"]


class _Sink(EventSinkContract):
    @pytest.fixture
    def read_back(self) -> Callable[[], Sequence[dict[str, Any]]]:
        EVENTS.clear()
        return lambda: [event.as_dict() for event in EVENTS]


_SUITES: dict[str, type[PortContract]] = {
    "authenticator": _Authenticator,
    "policy": PolicyContract,
    "ca_backend": CaBackendContract,
    "key_store": _KeyStore,
    "event_sink": _Sink,
    "tls_material": TlsMaterialContract,
}


def _suite(row: Careless) -> type[PortContract]:
    """The suite of its port, for this plugin and with what it needs to find the mistake."""
    base = _SUITES[row.kind]

    def secrets(_self: Any) -> Sequence[str]:
        return row.contract.secrets if row.contract else ()

    members: dict[str, Any] = {
        "provider": row.made_provider(),
        "patience_seconds": _IMPATIENT_SECONDS,
        "__module__": __name__,
    }
    if row.contract and row.contract.secrets:
        members["secrets"] = pytest.fixture(secrets)
    return type(f"Test_{row.name}", (base,), members)


globals().update({f"Test_{row.name}": _suite(row) for row in ROWS if row.contract is not None})


class TestSoundAuthenticator(_Authenticator):
    provider = Provider("sound", Settings, opening(SoundAuthenticator))


class TestSoundPolicy(PolicyContract):
    provider = Provider("sound", Settings, opening(SoundPolicy))


class TestSoundCa(CaBackendContract):
    provider = Provider("sound", Settings, opening(SoundCa))


class TestSoundKeyStore(_KeyStore):
    provider = Provider("sound", Settings, opening(SoundKeyStore))


class TestSoundSink(_Sink):
    provider = Provider("sound", Settings, opened_and_closed(SoundSink))


def _server_files(_settings: Settings, services: Services) -> Any:
    return opening(lambda: SoundTls(*(str(services.base_dir / name) for name in ("server.pem", "server.key"))))(
        _settings, services
    )


class TestSoundTls(TlsMaterialContract):
    provider = Provider("sound", Settings, _server_files)

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        leaf = ROOT.server("dns:localhost")
        (tmp_path / "server.pem").write_bytes(leaf.certificate_pem)
        write_private(tmp_path / "server.key", leaf.key_pem)
        return make_services(tmp_path)
