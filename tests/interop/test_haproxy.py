"""haproxy in front of the EST listener, in TCP mode: TLS stays the client's own, and so does its address."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Leaf, make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.interop.programs import run
from tests.system.system_kit import System, deploy, serving

pytestmark = pytest.mark.interop
CLIENT_ADDRESS = "127.0.0.2"
CONFIGURATION = """
global
    stats socket {directory}/stats
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend est
    bind fd@{listening}
    default_backend kipuka
backend kipuka
    server one 127.0.0.1:{port} {options}
"""


@contextmanager
def haproxy(directory: Path, est_port: int, options: str) -> Iterator[int]:
    """Haproxy in front of this port; the port that it listens on."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.fail("the program haproxy is missing: run tests/interop/install-system-packages (as root)")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        text = CONFIGURATION.format(directory=directory, listening=listening.fileno(), port=est_port, options=options)
        (directory / "haproxy.cfg").write_text(text)
        command = [program, "-db", "-q", "-f", str(directory / "haproxy.cfg")]
        process = subprocess.Popen(command, pass_fds=[listening.fileno()])
        try:
            yield listening.getsockname()[1]
        finally:
            process.terminate()
            process.wait(20)


def has_checked(directory: Path) -> bool:
    """Whether haproxy has looked at the server at least once, and found it well."""
    with socket.socket(socket.AF_UNIX) as stats:
        try:
            stats.connect(str(directory / "stats"))
        except OSError:  # haproxy is still starting
            return False
        stats.sendall(b"show stat\n")
        with stats.makefile() as lines:
            return any(line.startswith("kipuka,one,") and "L4OK" in line for line in lines)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    deployment = deploy(tmp_path / "deployment", server='proxy_protocol_from = ["127.0.0.1"]')
    with serving(deployment) as running:
        yield running


def curl(system: System, port: int, csr_der: bytes, operation: str, *options: str | Path, check: bool = True) -> bytes:
    done = run(
        "curl", "-sS", "--fail-with-body", "--interface", CLIENT_ADDRESS, "--cacert", system.deployment.root_pem,
        "-H", "Content-Type: application/pkcs10", "--data-binary", "@-", *options,
        f"https://localhost:{port}/.well-known/est/{operation}",
        stdin=base64.encodebytes(csr_der), check=check,
    )  # fmt: skip
    return base64.b64decode(done.stdout) if check else done.stderr


def test_a_device_enrols_and_renews_through_haproxy(system: System, tmp_path: Path) -> None:
    key = make_key()
    csr = make_csr(key, "device")
    with haproxy(tmp_path, system.server.est_port, "send-proxy-v2 check inter 100ms") as port:
        first = curl(system, port, csr, "simpleenroll", "-u", f"device:{system.otp('device')}")
        (certificate,) = pkcs7.load_der_pkcs7_certificates(first)
        paths = write_leaf(Leaf(certificate, key), tmp_path)
        second = curl(system, port, csr, "simplereenroll", "--cert", paths[0], "--key", paths[1])
        wait_until(lambda: has_checked(tmp_path), what=lambda: "a health check of haproxy")
    assert system.server.stop() == 0

    (renewed,) = pkcs7.load_der_pkcs7_certificates(second)
    assert renewed.public_bytes(Encoding.DER) != certificate.public_bytes(Encoding.DER)
    issued = [fact for fact in system.audit() if fact["event"] == "certificate_issued"]
    assert [fact["source_address"] for fact in issued] == [CLIENT_ADDRESS] * 2
    assert [fact["authenticator"] for fact in issued] == ["otp", "mtls"]
    # Neither do haproxy's own connections, which begin with the command LOCAL and end there, count as failures.
    assert [fact for fact in system.audit() if fact["event"] == "handshake_failed"] == []


@pytest.mark.parametrize(("options", "cause"), [("", "proxy_header_missing"), ("send-proxy", "proxy_header_malformed")])
def test_a_haproxy_that_is_not_set_up_for_it_is_refused_and_named(
    system: System, tmp_path: Path, options: str, cause: str
) -> None:
    with haproxy(tmp_path, system.server.est_port, options) as port:
        curl(system, port, make_csr(common_name="device"), "simpleenroll", check=False)
        (line,) = system.server.wait_for_log(lambda line: line["event"] == "handshake_failed")
    assert (line["cause"], line["source_address"]) == (cause, "127.0.0.1")
    assert "version 2" in line["reason"]
