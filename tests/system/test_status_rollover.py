"""After a roll-over: the earlier key answers for what it has issued, the new one for what is issued now."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from kipuka_core.model.fingerprints import issuer_key_id
from kipuka_core.testing.pki import key_pem, make_root
from kipuka_core.testing.samples import write_private
from tests.system.status_kit import HTTP, crl_of, get_path, is_on_crl, plain, request_about, status_of
from tests.system.system_kit import deploy, serving

ROOT = make_root("Rolling Root")
FIRST, SECOND = ROOT.subordinate("First Issuing CA"), ROOT.subordinate("Second Issuing CA", "rsa2048")


def table(current: str, more: str = "") -> str:
    return f'[[ca]]\nid = "main"\ncert = "{current}.pem"\nkey = "{current}.key"\nchain = "root.pem"\n{more}'


@pytest.mark.long
def test_the_earlier_key_speaks_for_its_certificates(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment")
    (deployment.directory / "root.pem").write_bytes(ROOT.pem)
    for name, authority in (("first", FIRST), ("second", SECOND)):
        (deployment.directory / f"{name}.pem").write_bytes(authority.pem)
        write_private(deployment.directory / f"{name}.key", key_pem(authority.key))
    deployment.configure(table("first"), server=HTTP)
    with serving(deployment) as before:
        old, held = before.enrolled("old-device"), before.enrolled("held-device")
        deployment.kipuka("certs", "revoke", f"{old.certificate.serial_number:x}")
        assert is_on_crl(before, old.certificate.serial_number, "main")
        number = crl_of(before, "main").extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    deployment.configure(table("second", 'previous = "first.pem"\nprevious_keys = "first.key"\n'), server=HTTP)
    path = f"/crl/main.{issuer_key_id(FIRST.certificate)[:16]}.crl"
    with serving(deployment) as after:
        new = after.enrolled("new-device")
        current = crl_of(after, "main")
        assert current.issuer == SECOND.certificate.subject
        assert len(current) == 0
        earlier = x509.load_der_x509_crl(plain(after, "GET", path).body)
        assert earlier.is_signature_valid(FIRST.certificate.public_key())  # type: ignore[arg-type]
        assert [entry.serial_number for entry in earlier] == [old.certificate.serial_number]
        assert earlier.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number >= number
        assert status_of(after, old.certificate, FIRST.certificate) == "REVOKED"
        assert status_of(after, held.certificate, FIRST.certificate) == "GOOD"
        assert status_of(after, new.certificate, SECOND.certificate) == "GOOD"
        answer = plain(after, "GET", get_path(request_about(held.certificate, FIRST.certificate)))
        (signer,) = ocsp.load_der_ocsp_response(answer.body).certificates
        signer.verify_directly_issued_by(FIRST.certificate)
        deployment.kipuka("certs", "revoke", f"{held.certificate.serial_number:x}")
        assert len(x509.load_der_x509_crl(plain(after, "GET", path).body)) == 2
        assert status_of(after, held.certificate, FIRST.certificate) == "REVOKED"
        lines = deployment.kipuka("crl", "show").stdout.splitlines()
        assert len([line for line in lines if line.startswith("main")]) == 2
    deployment.configure(table("second", 'previous = "first.pem"\n'), server=HTTP)
    with serving(deployment) as without:  # nobody is left who could sign
        assert status_of(without, old.certificate, FIRST.certificate) == "UNAUTHORIZED"
        assert plain(without, "GET", path).status == 404
        assert without.client(old).request("GET", "cacerts").status in {200, 401}
