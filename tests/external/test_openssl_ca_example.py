"""The example ``examples/openssl-ca``: its program keeps the contract of CA backends, and makes nothing twice."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kipuka_builtin.command_ca import PROVIDER
from kipuka_core import CaBackend, Issued, NotIssued, Services
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.ca_backend import CaBackendContract, asked
from kipuka_core.testing.services import make_services
from tests.docs.blocks import ROOT
from tests.external.external_kit import approved_by

EXAMPLE = ROOT / "examples" / "openssl-ca"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("openssl") / "ca"
    shutil.copytree(EXAMPLE, directory)
    subprocess.run([directory / "make-ca"], check=True)
    return directory


class TestTheExample(CaBackendContract):
    provider = PROVIDER
    requests_at_once = 12
    timeout_seconds = 120

    @pytest.fixture
    def settings(self, directory: Path) -> Mapping[str, Any]:
        program = {"program": ["sign"], "chain": "ca/chain.pem", "timeout": "60s", "processes": 2}
        return program | {"finds": True, "revokes": True}

    @pytest.fixture
    def services(self, directory: Path) -> Services:
        return make_services(directory, call_timeout_seconds=180.0)

    async def test_the_same_request_never_gets_two_certificates(self, backend: CaBackend) -> None:
        approved = await approved_by(backend, request_id="ab12")
        issued = [await backend.issue(approved) for _ in range(2)]
        issued.append(await backend.poll(asked(approved)))
        assert issued[0] == issued[1] == issued[2]

    async def test_what_was_killed_before_it_was_made_is_not_issued(self, backend: CaBackend, directory: Path) -> None:
        """The serial number was chosen, a certificate even signed, and nothing is in the index."""
        (directory / "ca" / "requests" / "ab13").write_text("4001\n", encoding="ascii")
        (directory / "ca" / "newcerts" / "4001.pem").write_bytes(pki.make_root().leaf().certificate_pem)
        approved = await approved_by(backend, request_id="ab13")
        with pytest.raises(NotIssued):
            await backend.poll(asked(approved))
        assert isinstance(await backend.issue(approved), Issued)

    async def test_a_revoked_certificate_is_in_the_crl(self, backend: CaBackend, directory: Path) -> None:
        issued = await backend.issue(await approved_by(backend, request_id="ab14"))
        assert isinstance(issued, Issued)
        await backend.revoke(issued.certificate, 4)
        crl = x509.load_pem_x509_crl((directory / "ca" / "crl.pem").read_bytes())
        found = crl.get_revoked_certificate_by_serial_number(issued.certificate.serial_number)
        assert found is not None
        reason = found.extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert reason == x509.ReasonFlags.superseded
