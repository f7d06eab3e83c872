"""The contract suite of CA backends, on a real CFSSL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kipuka_cfssl.provider import PROVIDER
from kipuka_core import CaBackend, Provider, Services
from kipuka_core.testing.contracts.ca_backend import CaBackendContract
from kipuka_core.testing.services import make_services
from tests.cfssl.cfssl_server import Cfssl


class TestCfssl(CaBackendContract):
    provider: ClassVar[Provider[CaBackend]] = PROVIDER
    subject_key_types: ClassVar[Sequence[str]] = ("ecdsa256", "ecdsa384", "rsa2048")
    issues_further_extensions: ClassVar[bool] = False

    @pytest.fixture
    def settings(self, cfssl: Cfssl) -> Mapping[str, Any]:
        return cfssl.settings


class TestCfsslWithSerialsOfKipuka(TestCfssl):
    @pytest.fixture
    def settings(self, cfssl: Cfssl) -> Mapping[str, Any]:
        return cfssl.settings_with_serials

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        """Those of somebody who asks what became of a request when ``settle_after`` is over."""
        return make_services(tmp_path, clock=lambda: datetime.now(UTC) + timedelta(minutes=2))
