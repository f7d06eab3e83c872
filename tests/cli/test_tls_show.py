"""``kipuka tls show``: what the files hold, whom they trust, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.testing.pki import make_root
from kipuka_core.testing.server import Deployment, make_deployment
from tests.interop.programs import run
from tests.startup.starting import pem, write_server

DEVICES = make_root("Device CA", days=20)
ADMINS = make_root("Admin CA")
ADMIN_TLS = """
[admin.client_auth]
trust_anchors = "admins.pem"
[admin.tls]
cert = "admin.pem"
key = "admin.key"
min_version = "1.3"
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    directory = tmp_path_factory.mktemp("show") / "deployment"
    deployment = make_deployment(directory)
    (directory / "devices.pem").write_bytes(DEVICES.pem)
    (directory / "admins.pem").write_bytes(ADMINS.pem)
    admin = ADMINS.leaf("admin", ("dns:localhost",), key_type="rsa2048", eku=(ExtendedKeyUsageOID.SERVER_AUTH,))
    (directory / "admin.pem").write_bytes(admin.certificate_pem + ADMINS.pem)
    (directory / "admin.key").write_bytes(admin.key_pem)
    (directory / "admin.key").chmod(0o600)
    deployment.configure(ADMIN_TLS, client_auth='trust_anchors = "devices.pem"\n')
    return deployment


@pytest.fixture(scope="module")
def shown(deployment: Deployment) -> list[dict[str, Any]]:
    listeners: list[dict[str, Any]] = json.loads(deployment.kipuka("tls", "show", "--json").stdout)["listeners"]
    return listeners


def openssl_x509(deployment: Deployment, file: str, *options: str) -> str:
    return run("openssl", "x509", "-in", deployment.directory / file, "-noout", *options).stdout.decode()


def test_the_certificate_is_shown_as_openssl_reads_it(deployment: Deployment, shown: list[dict[str, Any]]) -> None:
    certificate = shown[0]["certificate"]
    (fingerprint,) = openssl_x509(deployment, "tls/server.pem", "-fingerprint", "-sha256").splitlines()
    assert certificate["sha256_fingerprint"] == fingerprint.partition("=")[2]
    (serial,) = openssl_x509(deployment, "tls/server.pem", "-serial").splitlines()
    assert int(certificate["serial"], 16) == int(serial.partition("=")[2], 16)
    end = openssl_x509(deployment, "tls/server.pem", "-enddate", "-dateopt", "iso_8601").strip().partition("=")[2]
    assert certificate["not_after"] == end.replace(" ", "T")
    assert certificate["subject"] == "CN=localhost"
    assert certificate["issuer"] == "CN=Kipuka Test Issuing CA,O=Kipuka Test"
    assert certificate["days_left"] == 396
    assert certificate["key"] == "ecdsa256"
    assert certificate["names"] == ["dns:localhost", "ip:127.0.0.1"]
    assert certificate["key_usage"] == ["digitalSignature"]
    assert certificate["ext_key_usage"] == [
        {"name": "serverAuth", "oid": "1.3.6.1.5.5.7.3.1"},
        {"name": "id-kp-cmcRA", "oid": "1.3.6.1.5.5.7.3.28"},
    ]
    assert [each["subject"] for each in shown[0]["chain"]] == ["CN=Kipuka Test Issuing CA,O=Kipuka Test"]


def test_versions_and_suites_are_those_that_a_client_can_get(shown: list[dict[str, Any]]) -> None:
    est, admin = shown
    tls13 = ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]
    assert (est["min_version"], admin["min_version"]) == ("1.2", "1.3")
    assert admin["cipher_suites"] == {"1.3": tls13}
    assert est["cipher_suites"] == {
        "1.3": tls13,
        "1.2": [  # the key is an EC key
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ],
    }


def test_trust_is_shown_with_ends_and_own_cas(shown: list[dict[str, Any]]) -> None:
    est, admin = shown
    assert (est["client_auth"], admin["client_auth"]) == ("optional", "required")
    anchors = {each["subject"]: (each["own_ca"], each["days_left"]) for each in est["trust_anchors"]}
    assert anchors["CN=Device CA"] == (False, 19)
    assert anchors["CN=Kipuka Test Root CA,O=Kipuka Test"][0] is True
    assert anchors["CN=Kipuka Test Issuing CA,O=Kipuka Test"][0] is True
    assert [each["subject"] for each in admin["trust_anchors"]] == ["CN=Admin CA"]


def test_warnings_and_notes_are_shown(deployment: Deployment, shown: list[dict[str, Any]]) -> None:
    est, admin = shown
    (warning,) = est["warnings"]
    assert "the trust anchor CN=Device CA ends on" in warning
    assert any("id-kp-cmcRA" in line and "kipuka tls csr --host localhost" in line for line in admin["warnings"])
    assert any("keyEncipherment" in line for line in admin["notes"])
    text = deployment.kipuka("tls", "show").stdout
    for line in (*est["warnings"], *admin["warnings"]):
        assert f"warning: {line}\n" in text
    for line in admin["notes"]:
        assert f"note: {line}\n" in text
    assert "serverAuth (1.3.6.1.5.5.7.3.1), id-kp-cmcRA (1.3.6.1.5.5.7.3.28)\n" in text
    assert "own CA\n" in text


def test_check_and_show_say_the_same_warnings(deployment: Deployment, shown: list[dict[str, Any]]) -> None:
    said = deployment.kipuka("check").stdout
    for listener in shown:
        for line in listener["warnings"]:
            assert line in said


def test_it_needs_no_database_and_makes_none(deployment: Deployment, shown: list[dict[str, Any]]) -> None:
    assert not deployment.database.exists()


def test_what_would_stop_the_start_is_one_line(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    write_server(deployment, make_root().server())
    (tmp_path / "tls" / "server.pem").write_bytes(pem(make_root().certificate))

    done = deployment.kipuka("tls", "show", check=False)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is not the key of the first certificate in" in line
