"""The contract suite of CA backends, on a stand-in for Vault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kipuka_core import CaBackend, Provider
from kipuka_core.testing.contracts.ca_backend import CaBackendContract
from kipuka_vault.provider import PROVIDER
from tests.vault.vault_stand_in import Vault, settings_for

BY_ROLE = {
    "role": "devices",
    "sets_key_usage": ["digitalSignature", "keyAgreement"],
    "sets_ext_key_usage": ["clientAuth"],
}


class TestVaultVerbatim(CaBackendContract):
    provider: ClassVar[Provider[CaBackend]] = PROVIDER
    issues_further_extensions: ClassVar[bool] = False  # they have to be in the CSR, and the suite's CSRs have none

    @pytest.fixture
    def settings(self, vault: Vault, tmp_path: Path) -> Mapping[str, Any]:
        return settings_for(vault, tmp_path)


class TestVaultByRole(CaBackendContract):
    provider: ClassVar[Provider[CaBackend]] = PROVIDER
    issues_further_extensions: ClassVar[bool] = False

    @pytest.fixture
    def settings(self, vault: Vault, tmp_path: Path) -> Mapping[str, Any]:
        return settings_for(vault, tmp_path) | BY_ROLE
