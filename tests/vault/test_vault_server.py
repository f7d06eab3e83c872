"""A whole server before the stand-in for Vault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.server import make_deployment, wait_until
from tests.system.system_kit import serving
from tests.vault.vault_stand_in import ROOT_TOKEN, SECRET_ID, Vault, settings_for

pytestmark = pytest.mark.long


def test_a_device_enrols_and_is_revoked_at_vault_and_no_secret_is_logged(vault: Vault, tmp_path: Path) -> None:
    site = make_deployment(tmp_path / "site")
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings_for(vault, tmp_path).items()]
    site.configure("\n".join(['[plugins]\nenable = ["vault"]\n[[ca]]\nid = "devices"\nbackend = "vault"', *lines]))
    with serving(site) as system:
        csr = make_csr(make_key(), "device-1", ["dns:device-1"])
        certificate = system.client().enrol(csr, user="device-1", password=system.otp("device-1")).certificate()
        assert vault.issued == [certificate]
        site.kipuka("certs", "revoke", f"{certificate.serial_number:x}", "--reason", "keyCompromise")
        wait_until(lambda: len(vault.revoked) == 1)

        vault.sealed = True
        csr = make_csr(make_key(), "device-2", ["dns:device-2"])
        token = system.otp("device-2")
        assert system.client().enrol(csr, user="device-2", password=token).status == 503
        vault.sealed = False
        assert system.client().enrol(csr, user="device-2", password=token).status == 200
        assert [fact["reason"] for fact in system.audit() if fact["event"] == "vault_failed"]
    written = (site.directory / "server.log").read_text() + site.audit_log.read_text()
    assert not [secret for secret in (SECRET_ID, ROOT_TOKEN, *vault.tokens) if secret in written]
