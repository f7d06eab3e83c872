"""nginx in front of the EST listener: passing TCP through as docs/reverse-proxy.md has it; and ending TLS, in vain."""

from __future__ import annotations

import base64
import grp
import os
import pwd
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kipuka_core.testing.client import EstClient, basic
from kipuka_core.testing.pki import Leaf, make_csr
from tests.docs.blocks import blocks_of
from tests.system.system_kit import System, deploy, serving

pytestmark = pytest.mark.interop
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
FRAME = """
load_module {module};
daemon off;
user {user} {group};
pid nginx.pid;
error_log stderr;
events {{ }}
{body}
"""
ENDING_TLS = """
http {
    access_log off;
    client_body_temp_path client; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:LISTEN ssl;
        ssl_certificate DEPLOYMENT/tls/server.pem;
        ssl_certificate_key DEPLOYMENT/tls/server.key;
        ssl_verify_client optional_no_ca;
        location / {
            proxy_pass SCHEME://127.0.0.1:EST;
            proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
            proxy_set_header X-SSL-Client-Verify SUCCESS;
        }
    }
}
"""


def stream_of_the_page() -> str:
    """What the page tells nginx, with one server behind it."""
    (block,) = (block for block in blocks_of("docs/reverse-proxy.md") if block.text.startswith("stream {"))
    text = block.text.replace("server 192.0.2.8:8443;", "")
    assert "listen 8443;" in text
    return text.replace("listen 8443;", "listen 127.0.0.1:LISTEN;").replace("192.0.2.7:8443", "127.0.0.1:EST")


@contextmanager
def nginx(directory: Path, system: System, body: str, scheme: str = "https") -> Iterator[int]:
    """Nginx in front of the EST listener; the port that it listens on, whose socket it inherits."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or not MODULE.exists():
        pytest.fail("nginx or its module stream is missing: run tests/interop/install-system-packages (as root)")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        places = {"LISTEN": port, "EST": system.server.est_port, "DEPLOYMENT": system.deployment.directory}
        for name, place in ({"SCHEME": scheme} | places).items():
            body = body.replace(name, str(place))
        configuration = directory / "nginx.conf"
        user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        configuration.write_text(FRAME.format(module=MODULE, user=user, group=group, body=body))
        process = subprocess.Popen(
            [program, "-p", directory, "-e", "stderr", "-c", configuration],
            pass_fds=[listening.fileno()],
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
        )
        try:
            yield port
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with serving(deploy(tmp_path / "deployment")) as running:
        yield running


@pytest.fixture
def system_behind(tmp_path: Path) -> Iterator[System]:
    deployment = deploy(tmp_path / "deployment", server='proxy_protocol_from = ["127.0.0.1"]')
    with serving(deployment) as running:
        yield running


def client_of(system: System, port: int, leaf: Leaf | None = None, tls: ssl.TLSVersion | None = None) -> EstClient:
    directory = system.deployment.directory if leaf else None
    return EstClient(port, system.deployment.root_pem, leaf=leaf, directory=directory, tls=tls)


def test_a_device_enrols_and_renews_through_nginx_under_the_address_of_nginx(system: System, tmp_path: Path) -> None:
    csr = make_csr(key := system.enrolled("other").key, "device")
    with nginx(tmp_path, system, stream_of_the_page()) as port:
        first = client_of(system, port).enrol(csr, user="device", password=system.otp("device")).certificate()
        renewed = client_of(system, port, Leaf(first, key)).reenrol(csr).certificate()
    assert renewed.subject == first.subject
    assert renewed.serial_number != first.serial_number
    assert {fact["source_address"] for fact in system.audit() if fact["event"] == "certificate_issued"} == {"127.0.0.1"}


def test_the_header_of_nginx_is_version_1_and_refused(system_behind: System, tmp_path: Path) -> None:
    body = stream_of_the_page().replace("proxy_pass", "proxy_protocol on; proxy_pass")
    with nginx(tmp_path, system_behind, body) as port, pytest.raises((ssl.SSLError, ConnectionError)):
        client_of(system_behind, port).request("GET", "cacerts")
    (line,) = system_behind.server.wait_for_log(lambda line: line["event"] == "handshake_failed")
    assert (line["cause"], line["source_address"]) == ("proxy_header_malformed", "127.0.0.1")


def test_where_nginx_ends_tls_passwords_enrol_and_no_certificate_counts(system: System, tmp_path: Path) -> None:
    leaf = system.enrolled("device")
    csr = make_csr(leaf.key, "device")
    with nginx(tmp_path, system, ENDING_TLS) as port:
        client = client_of(system, port, leaf)
        assert client.enrol(csr, user="device", password=system.otp("device")).status == 200
        assert client.reenrol(csr).status == 401
        der = leaf.certificate_pem.replace(b"\n", b"").removeprefix(b"-----BEGIN CERTIFICATE-----")
        forged = {"Content-Type": "application/pkcs10", "Client-Cert": f":{der.partition(b'-----')[0].decode()}:"}
        answer = client.request("POST", "simplereenroll", base64.encodebytes(csr), forged)
    assert answer.status == 401


def test_where_nginx_ends_tls_the_binding_of_the_device_is_wrong(system: System, tmp_path: Path) -> None:
    with nginx(tmp_path, system, ENDING_TLS) as port:
        client = client_of(system, port, tls=ssl.TLSVersion.TLSv1_2)
        connection = client.connect()
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        binding = connection.sock.get_channel_binding("tls-unique")
        assert binding
        csr = make_csr(common_name="device", challenge_password=base64.b64encode(binding))
        headers = {"Content-Type": "application/pkcs10", "Authorization": basic("device", system.otp("device"))}
        answer = client.request("POST", "simpleenroll", base64.encodebytes(csr), headers, connection=connection)
        connection.close()
    assert system.refused(answer, 400, "channel binding")["code"] == "channel_binding_mismatch"


def test_where_nginx_speaks_http_to_the_server_nobody_is_answered(system: System, tmp_path: Path) -> None:
    with nginx(tmp_path, system, ENDING_TLS, scheme="http") as port:
        assert client_of(system, port).request("GET", "cacerts").status == 502
    (line,) = system.server.wait_for_log(lambda line: line["event"] == "handshake_failed")
    assert line["cause"] == "plain_http"
