"""``kipuka crl``: on the store, with and without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509

from kipuka_core.testing.server import Deployment, make_deployment


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return make_deployment(tmp_path_factory.mktemp("crl") / "deployment")


def test_a_crl_is_made_shown_and_exported_without_a_server(deployment: Deployment, tmp_path: Path) -> None:
    missing = deployment.kipuka("crl", "export", check=False)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "`kipuka crl make default` makes one" in missing.stderr
    assert deployment.kipuka("crl", "show").stdout.split() == [
        *("CA", "KEY", "NUMBER", "ENTRIES", "THIS", "UPDATE", "NEXT", "UPDATE", "STATE")
    ]
    (made,) = json.loads(deployment.kipuka("crl", "make", "--json").stdout)
    assert (made["ca_id"], made["entries"], made["state"]) == ("default", 0, "current")
    (shown,) = json.loads(deployment.kipuka("crl", "show", "default", "--json").stdout)
    assert shown == made
    assert f"default  {made['key']}  {made['number']}" in deployment.kipuka("crl", "show").stdout
    out = tmp_path / "out.crl"
    deployment.kipuka("crl", "export", "default", "--out", str(out))
    pem = deployment.kipuka("crl", "export", "--pem", "--ca-key", made["key"]).stdout
    assert x509.load_der_x509_crl(out.read_bytes()) == x509.load_pem_x509_crl(pem.encode())
    issuing = x509.load_pem_x509_certificate(deployment.root_pem.with_name("issuing.pem").read_bytes())
    assert x509.load_pem_x509_crl(pem.encode()).is_signature_valid(issuing.public_key())  # type: ignore[arg-type]
    (again,) = json.loads(deployment.kipuka("crl", "make", "default", "--json").stdout)
    assert again["number"] > made["number"]


@pytest.mark.parametrize("command", ["make", "show", "export"])
def test_a_ca_that_is_not_there_is_named_with_those_that_are(deployment: Deployment, command: str) -> None:
    refused = deployment.kipuka("crl", command, "nowhere", check=False)
    assert refused.returncode == 1
    assert "there is no CA 'nowhere'" in refused.stderr
    assert "(known: default)" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_key_that_is_not_there_has_no_crl(deployment: Deployment) -> None:
    deployment.kipuka("crl", "make")
    refused = deployment.kipuka("crl", "export", "--ca-key", "00ff", check=False)
    assert refused.returncode == 1
    assert "there is no such CRL of default" in refused.stderr
