"""A device with the clients of others, kipuka as registration authority, and a CA elsewhere: real processes, all."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server, wait_until
from tests.docs.blocks import ROOT
from tests.external.est_kit import upstream_deployment, write_ra
from tests.interop.programs import run

WAITS = """
[[est.label]]
name = "waits"
auth = ["ra"]
subject_binding = "any"
key_usage = ["digitalSignature"]
max_validity_days = 30
approval = true
"""
EST = """
[enrollment]
accept_ca_profile = true
key_usage = ["digitalSignature"]
allowed_key_types = ["ecdsa256", "rsa2048"]

[[ca]]
id = "upstream"
backend = "est"
url = "{url}"
trust_anchors = "{root}"
cert = "ra.pem"
key = "ra.key"
sets_validity_days = 30
"""
COMMAND = """
[[ca]]
id = "openssl"
backend = "command"
program = ["{program}"]
chain = "openssl-ca/ca/chain.pem"
finds = true
revokes = true
"""


@dataclass(frozen=True, slots=True)
class Road:
    """A kipuka that runs, and the issuing certificate of the CA behind it."""

    server: RunningServer
    issuer: x509.Certificate
    issuer_pem: Path

    @property
    def deployment(self) -> Deployment:
        return self.server.deployment


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(upstream_deployment(tmp_path_factory.mktemp("upstream"), more=WAITS)) as running:
        yield running


def behind_est(directory: Path, upstream: RunningServer, label: str) -> Deployment:
    deployment = make_deployment(directory)
    write_ra(directory)
    deployment.configure(EST.format(url=f"{upstream.est_url}/{label}", root=upstream.deployment.root_pem))
    return deployment


def behind_openssl(directory: Path, program: str = "openssl-ca/sign") -> Deployment:
    deployment = make_deployment(directory)
    shutil.copytree(ROOT / "examples" / "openssl-ca", directory / "openssl-ca")
    run(directory / "openssl-ca" / "make-ca")
    deployment.configure(COMMAND.format(program=program))
    return deployment


@pytest.fixture(scope="module", params=["command", "est"])
def road(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: RunningServer
) -> Iterator[Road]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "est":
        deployment = behind_est(directory, upstream, "ra")
        issuer = upstream.deployment.root_pem.with_name("issuing.pem")
    else:
        deployment = behind_openssl(directory)
        issuer = directory / "openssl-ca" / "ca" / "ca.pem"
    with running_server(deployment) as server:
        yield Road(server, x509.load_pem_x509_certificate(issuer.read_bytes()), issuer)


def certificates_in(answer: bytes) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))


def test_curl_and_openssl_enrol_and_renew(road: Road, tmp_path: Path) -> None:
    curl = ["curl", "-sS", "--fail-with-body", "--cacert", str(road.deployment.root_pem)]
    token = road.deployment.otp("curl-device")
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "device.key", cwd=tmp_path)
    subject = ["-subj", "/CN=curl-device", "-addext", "subjectAltName=DNS:curl-device"]
    der = run("openssl", "req", "-new", "-key", "device.key", *subject, "-outform", "DER", cwd=tmp_path).stdout
    (tmp_path / "device.csr").write_bytes(base64.encodebytes(der))
    post = ["-H", "Content-Type: application/pkcs10", "--data-binary", "@device.csr"]

    cas = certificates_in(run(*curl, f"{road.server.est_url}/cacerts").stdout)
    first = run(*curl, *post, "-u", f"curl-device:{token}", f"{road.server.est_url}/simpleenroll", cwd=tmp_path)
    (enrolled,) = certificates_in(first.stdout)
    (tmp_path / "device.pem").write_bytes(enrolled.public_bytes(Encoding.PEM))
    credential = ["--cert", "device.pem", "--key", "device.key"]
    second = run(*curl, *post, *credential, f"{road.server.est_url}/simplereenroll", cwd=tmp_path)
    (renewed,) = certificates_in(second.stdout)

    assert road.issuer in cas
    for certificate in (enrolled, renewed):
        certificate.verify_directly_issued_by(road.issuer)
        assert certificate.subject.rfc4514_string() == "CN=curl-device"
    assert enrolled.serial_number != renewed.serial_number


@pytest.mark.parametrize(("key_type", "size"), [("rsa", "2048"), ("ecdsa", "256")])
def test_strongswan_enrols_and_renews(road: Road, tmp_path: Path, key_type: str, size: str) -> None:
    name = f"strongswan-{key_type}"
    token = road.deployment.otp(name)
    key, certificate = tmp_path / "device.key", tmp_path / "device.pem"
    key.write_bytes(run("pki", "--gen", "--type", key_type, "--size", size, "--outform", "pem").stdout)
    request: list[str | Path] = ["pki", "--req", "--in", key, "--type", key_type, "--dn", f"CN={name}", "--san", name]
    csr = run(*request, "--outform", "der").stdout
    est: list[str | Path] = ["pki", "--est", "--url", f"https://localhost:{road.server.est_port}", "--outform", "pem"]
    est += ["--cacert", road.deployment.root_pem, "--cacert", road.issuer_pem]

    enrolled = x509.load_pem_x509_certificate(run(*est, "--userpass", f"{name}:{token}", stdin=csr).stdout)
    certificate.write_bytes(enrolled.public_bytes(Encoding.PEM))
    renewed = x509.load_pem_x509_certificate(run(*est, "--cert", certificate, "--key", key, stdin=csr).stdout)

    for each in (enrolled, renewed):
        each.verify_directly_issued_by(road.issuer)
    assert enrolled.subject == renewed.subject == x509.load_der_x509_csr(csr).subject
    assert enrolled.serial_number != renewed.serial_number


def test_a_device_waits_for_somebody_upstream(upstream: RunningServer, tmp_path: Path) -> None:
    with running_server(behind_est(tmp_path, upstream, "waits")) as server:
        client = EstClient(server.est_port, server.deployment.root_pem)
        token = server.deployment.otp("patient")
        csr = make_csr(make_key(), "patient", ["dns:patient"])
        waits = client.enrol(csr, user="patient", password=token)
        assert waits.status == 202
        assert int(waits.headers["retry-after"]) > 0
        (waiting,) = json.loads(upstream.deployment.kipuka("requests", "list", "--json").stdout)
        upstream.deployment.kipuka("requests", "approve", waiting["id"])
        # Its record is asked for the certificate by itself: until then the device is told to wait.
        wait_until(lambda: client.enrol(csr, user="patient", password=token).status == 200, what=server_log(server))
        certificate = client.enrol(csr, user="patient", password=token).certificate()
        assert certificate.subject.rfc4514_string() == "CN=patient"


LOSES_ITS_FIRST_ANSWER = """#!/bin/bash
question=$(cat)
answer=$(openssl-ca/sign <<<"$question") || exit
if mkdir lost 2>/dev/null; then kill -9 $$; fi
echo "$answer"
"""


def test_a_certificate_whose_program_was_killed_is_found_again(tmp_path: Path) -> None:
    deployment = behind_openssl(tmp_path, program="loses-its-first-answer")
    (tmp_path / "loses-its-first-answer").write_text(LOSES_ITS_FIRST_ANSWER, encoding="ascii")
    (tmp_path / "loses-its-first-answer").chmod(0o755)
    with running_server(deployment) as server:
        client = EstClient(server.est_port, deployment.root_pem)
        token = deployment.otp("unlucky")
        csr = make_csr(make_key(), "unlucky", ["dns:unlucky"])
        lost = client.enrol(csr, user="unlucky", password=token)
        assert (lost.status, "gave no clear answer" in lost.text) == (503, True), lost.text
        wait_until(lambda: client.enrol(csr, user="unlucky", password=token).status == 200, what=server_log(server))
        certificate = client.enrol(csr, user="unlucky", password=token).certificate()
    index = (tmp_path / "openssl-ca" / "ca" / "index.txt").read_text(encoding="ascii").splitlines()
    assert [line.split("\t")[3] for line in index] == [f"{certificate.serial_number:X}"], "it was made once"


def test_what_is_revoked_here_is_revoked_there(tmp_path: Path) -> None:
    with running_server(behind_openssl(tmp_path)) as server:
        client = EstClient(server.est_port, server.deployment.root_pem)
        token = server.deployment.otp("lost")
        answer = client.enrol(make_csr(common_name="lost", san=["dns:lost"]), user="lost", password=token)
        serial = answer.certificate().serial_number
        server.deployment.kipuka("certs", "revoke", f"{serial:x}", "--reason", "keyCompromise")
        crl = tmp_path / "openssl-ca" / "ca" / "crl.pem"
        wait_until(crl.exists, what=server_log(server))
    found = x509.load_pem_x509_crl(crl.read_bytes()).get_revoked_certificate_by_serial_number(serial)
    assert found is not None


def test_an_upstream_that_is_away_costs_no_password(tmp_path: Path) -> None:
    (tmp_path / "upstream").mkdir()
    (tmp_path / "here").mkdir()
    with running_server(upstream_deployment(tmp_path / "upstream")) as upstream:
        deployment = behind_est(tmp_path / "here", upstream, "ra")
        with running_server(deployment) as server:
            client = EstClient(server.est_port, deployment.root_pem)
            token = deployment.otp("device")
            csr = make_csr(make_key(), "device", ["dns:device"])
            upstream.process.kill()
            upstream.process.wait()
            away = client.enrol(csr, user="device", password=token)
            assert (away.status, "cannot be reached" in away.text) == (503, True), away.text
            assert int(away.headers["retry-after"]) > 0
            requests = json.loads(deployment.kipuka("requests", "list", "--state", "all", "--json").stdout)
            assert requests == [], "nothing is with the CA"


def server_log(server: RunningServer) -> Callable[[], str]:
    return lambda: server.log_file.read_text(encoding="utf-8")
