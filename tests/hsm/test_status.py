"""CRLs and OCSP of a CA whose key is in a token; and of one whose token has gone away."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from kipuka_core.testing.server import wait_until
from tests.hsm.hsm_site import enrolled, make_site
from tests.hsm.softhsm import SoftHsm
from tests.system.status_kit import HTTP, crl_of, is_on_crl, status_of

pytestmark = pytest.mark.long


@pytest.mark.parametrize("key_type", ["rsa2048", "ecdsa384"])
def test_the_token_signs_crls_and_the_responder_s_certificate(hsm: SoftHsm, tmp_path: Path, key_type: str) -> None:
    site = make_site(tmp_path / "site", hsm, key_type)
    text = site.deployment.toml.read_text(encoding="utf-8")
    site.deployment.toml.write_text(text.replace("[server]\n", f"[server]\n{HTTP}"), encoding="utf-8")
    with site.serving() as system:
        first, second = enrolled(system, "device-1"), enrolled(system, "device-2")
        revoke = ("certs", "revoke", f"{first.certificate.serial_number:x}")
        site.deployment.kipuka(*revoke, check=True, **hsm.environment)
        crl = crl_of(system, "devices")
        assert crl.is_signature_valid(site.ca.public_key())  # type: ignore[arg-type]
        assert [entry.serial_number for entry in crl] == [first.certificate.serial_number]
        assert status_of(system, first.certificate, site.ca) == "REVOKED"
        assert status_of(system, second.certificate, site.ca) == "GOOD"
        made = site.deployment.kipuka("crl", "make", "devices", check=True, **hsm.environment)
        assert "current" in made.stdout
        hsm.wipe()
        revoke = ("certs", "revoke", f"{second.certificate.serial_number:x}")
        site.deployment.kipuka(*revoke, check=True, **hsm.environment)
        # The responder has a certificate already: it tells of the revocation without the token.
        assert status_of(system, second.certificate, site.ca) == "REVOKED"
        # The CRL cannot: the last one serves, and its number does not go back.
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        wait_until(lambda: any(line["event"].startswith("no CRL can be made") for line in system.server.log()))
        last = crl_of(system, "devices")
        assert last.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > number
        assert second.certificate.serial_number not in {entry.serial_number for entry in last}
        hsm.restore()
        wait_until(lambda: is_on_crl(system, second.certificate.serial_number, "devices"))
