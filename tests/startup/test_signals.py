"""SIGTERM lets a request under way finish; SIGHUP serves new connections with the server certificate as it is now."""

from __future__ import annotations

import signal
import socket
import ssl
from pathlib import Path

from cryptography import x509

from kipuka_core.cli.bootstrap import make_server_certificate
from kipuka_core.testing.client import EstClient, basic
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import RunningServer, make_deployment, running_server, wait_until


def _served_serial(server: RunningServer) -> int:
    pem = ssl.get_server_certificate(("localhost", server.est_port))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def _refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_a_request_under_way_finish(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    token, csr = deployment.otp("device"), make_csr(san=["dns:device"])
    with running_server(deployment) as server:
        client = EstClient(server.est_port, deployment.root_pem)
        connection = client.connect()
        connection.putrequest("POST", f"{client.base_path}/simpleenroll")
        connection.putheader("Content-Type", "application/pkcs10")
        connection.putheader("Content-Length", str(len(csr)))
        connection.putheader("Authorization", basic("device", token))
        connection.endheaders(csr[:10])

        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _refuses_connections(server.est_port), what=lambda: "the port to be closed")
        assert server.process.poll() is None
        connection.send(csr[10:])
        response = connection.getresponse()

        assert response.status == 200
        assert response.read()
        connection.close()
        assert server.process.wait(60) == 0  # a second SIGTERM would not wait


def test_sighup_serves_new_connections_with_the_new_certificate(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    with running_server(deployment) as server:
        before = _served_serial(server)
        kept = EstClient(server.est_port, deployment.root_pem).connect()
        kept.connect()
        for name in ("server.pem", "server.key"):
            (tmp_path / "tls" / name).unlink()
        make_server_certificate(
            tmp_path / "state" / "ca", tmp_path / "tls" / "server.pem", tmp_path / "tls" / "server.key", ("localhost",)
        )

        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: _served_serial(server) != before, what=lambda: "the new certificate")

        written = x509.load_pem_x509_certificate((tmp_path / "tls" / "server.pem").read_bytes())
        assert _served_serial(server) == written.serial_number
        kept.request("GET", "/.well-known/est/cacerts")
        assert kept.getresponse().status == 200
        kept.close()


def test_sighup_with_a_broken_certificate_keeps_the_old_one_and_says_so(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    with running_server(deployment) as server:
        before = _served_serial(server)
        (tmp_path / "tls" / "server.pem").write_bytes(b"garbled")

        server.process.send_signal(signal.SIGHUP)
        (line, *_) = server.wait_for_log(lambda line: line.get("what") == "reload_failed")

        assert "tls.cert" in line["detail"]
        assert "server.pem" in line["detail"]
        assert _served_serial(server) == before
