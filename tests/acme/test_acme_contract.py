"""The contract suite of CA backends, on pebble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from kipuka_acme.backend import PROVIDER
from kipuka_core import Approved, CaBackend, Provider
from kipuka_core.testing.contracts.ca_backend import CaBackendContract
from tests.acme.pebble import Pebble


class _OnPebble(CaBackendContract):
    provider: ClassVar[Provider[CaBackend]] = PROVIDER
    subject_key_types = ("ecdsa256", "ecdsa384", "rsa2048")
    issues_further_extensions = False
    names_without_san = False
    names_without_subject = False  # Debian's pebble puts the first name into the subject
    issues_without_reference = False
    requests_at_once = 20
    least_serial_bits = 56  # pebble draws 63 of them

    async def _approved(
        self,
        backend: CaBackend,
        *,
        key_type: str = "ecdsa256",
        common_name: str | None = "device",
        san: Sequence[str] = ("dns:device.example",),
        **fields: Any,
    ) -> Approved:
        """A common name has to be among the names."""
        first = san[0].partition(":")[2]
        return await super()._approved(backend, key_type=key_type, common_name=first, san=san, **fields)


class TestAcmeWithTheTemplatesValidityKeepsTheContract(_OnPebble):
    @pytest.fixture
    def settings(self, pebble: Pebble) -> Mapping[str, Any]:
        return pebble.table(http_webroot=str(pebble.directory))


class TestAcmeWithTheCasValidityKeepsTheContract(_OnPebble):
    @pytest.fixture
    def settings(self, pebble: Pebble) -> Mapping[str, Any]:
        return pebble.table(http_webroot=str(pebble.directory), sets_validity_days=1826)
