"""The contract suite of key stores, on SoftHSM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from kipuka_core import KeyStore, Provider
from kipuka_core.testing.contracts.key_store import KeyStoreContract
from kipuka_core.testing.pki import make_key
from kipuka_hsm.store import PROVIDER
from tests.hsm.softhsm import PIN, SO_PIN, SoftHsm


class TestPkcs11KeyStore(KeyStoreContract):
    provider: ClassVar[Provider[KeyStore]] = PROVIDER

    @pytest.fixture(params=["rsa2048", "ecdsa256", "ecdsa384", "ecdsa521", "ed25519"])
    def public_key(self, hsm: SoftHsm, request: pytest.FixtureRequest) -> CertificatePublicKeyTypes:
        key = make_key(request.param)
        hsm.import_key("issuing", key)
        return key.public_key()

    @pytest.fixture
    def key_uri(self, public_key: CertificatePublicKeyTypes) -> str:
        return "pkcs11:token=kipuka;object=issuing"

    @pytest.fixture
    def settings(self, hsm: SoftHsm) -> Mapping[str, Any]:
        return {"pin_file": hsm.pin_file, "sessions": 2}

    @pytest.fixture
    def refused_uris(self) -> Sequence[str]:
        return ("pkcs11:token=kipuka;object=nothing", "pkcs11:token=other;object=issuing")

    @pytest.fixture
    def new_key_uri(self, hsm: SoftHsm) -> str:
        return "pkcs11:token=kipuka;object=made"

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return (PIN, SO_PIN)
