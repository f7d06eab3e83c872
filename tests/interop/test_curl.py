"""curl where it does what other clients do too: a chunked request body, HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7

from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import RunningServer, make_deployment, running_server
from tests.interop.programs import run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(make_deployment(tmp_path_factory.mktemp("curl"))) as running:
        yield running


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
@pytest.mark.parametrize("body", ["chunked", "with a length"])
def test_curl_enrols(body: str, http: str, server: RunningServer, tmp_path: Path) -> None:
    token = server.deployment.otp("device")
    csr = base64.encodebytes(make_csr(san=["dns:device"]))
    (tmp_path / "device.csr").write_bytes(csr)
    # From standard input curl cannot know the length beforehand; -T - would be a PUT.
    how = ["-H", "Transfer-Encoding: chunked"] if (body, http) == ("chunked", "--http1.1") else []
    source = "@-" if body == "chunked" else "@device.csr"

    done = run(
        "curl", "-sS", "-v", "--fail-with-body", http, "--cacert", server.deployment.root_pem,
        "-u", f"device:{token}", "-H", "Content-Type: application/pkcs10", *how, "--data-binary", source,
        f"{server.est_url}/simpleenroll",
        stdin=csr, cwd=tmp_path,
    )  # fmt: skip

    assert (b"Transfer-Encoding: chunked" in done.stderr) == bool(how)
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(done.stdout))
    assert certificate.subject.rfc4514_string() == "CN=device"
