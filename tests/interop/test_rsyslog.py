"""The event sink ``syslog`` and a syslog server that others run: rsyslog, over each of the three ways."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kipuka_builtin import syslog_sink
from kipuka_core.model.event import CertificateIssued
from kipuka_core.testing.pki import make_root
from kipuka_core.testing.samples import NOW
from kipuka_core.testing.server import wait_until
from kipuka_core.testing.services import make_services

pytestmark = pytest.mark.interop

CONFIGURATION = """
global(workDirectory="{directory}" maxMessageSize="64k" defaultNetstreamDriver="ossl"
  defaultNetstreamDriverCAFile="{directory}/ca.pem" defaultNetstreamDriverCertFile="{directory}/syslog.pem"
  defaultNetstreamDriverKeyFile="{directory}/syslog.key")
module(load="imudp")
module(load="imtcp")
input(type="imudp" address="127.0.0.1" port="{udp}")
input(type="imtcp" address="127.0.0.1" port="{tcp}" streamDriver.name="ptcp" streamDriver.mode="0")
input(type="imtcp" address="127.0.0.1" port="{tls}" streamDriver.name="ossl" streamDriver.mode="1"
  streamDriver.authMode="anon")
template(name="parts" type="list") {{
  property(name="pri") constant(value="\\t") property(name="app-name") constant(value="\\t")
  property(name="msgid") constant(value="\\t") property(name="structured-data") constant(value="\\t")
  property(name="msg") constant(value="\\n")
}}
action(type="omfile" file="{directory}/received" template="parts")
"""
ISSUED = CertificateIssued(
    time=NOW, actor='de"v]ice\\', operation="simpleenroll", authenticator="otp", ca_id="default", serial="1",
    subject="CN=device", not_after="2030", key_type="ecdsa256", reason="x" * 3000,
)  # fmt: skip


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    found = {}
    for protocol in ("udp", "tcp", "tls"):
        with closing(socket.socket(type=socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)) as free:
            free.bind(("127.0.0.1", 0))
            found[protocol] = free.getsockname()[1]
    return found


@pytest.fixture(scope="module")
def rsyslog(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Path]:
    program = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
    if not Path(program).exists():
        pytest.fail("the program rsyslogd is missing: run tests/interop/install-system-packages (as root)")
    directory = tmp_path_factory.mktemp("rsyslog")
    root = make_root("Syslog Root CA")
    leaf = root.server()
    files = {"ca.pem": root.pem, "syslog.pem": leaf.certificate_pem, "syslog.key": leaf.key_pem}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    configuration = directory / "rsyslog.conf"
    configuration.write_text(CONFIGURATION.format(directory=directory, **ports))
    said = directory / "said"
    with said.open("wb") as output:
        server = subprocess.Popen(
            [program, "-n", "-f", configuration, "-i", directory / "pid"], stdout=output, stderr=output
        )
    try:

        def listens() -> bool:
            assert server.poll() is None, said.read_text()
            try:
                for protocol in ("tcp", "tls"):
                    socket.create_connection(("127.0.0.1", ports[protocol])).close()
            except ConnectionRefusedError:
                return False
            return True

        wait_until(listens, what=said.read_text)
        yield directory
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def received(directory: Path, message_id: str) -> list[list[str]]:
    file = directory / "received"
    lines = [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []
    return [parts for parts in lines if len(parts) == 5 and parts[2] == message_id]


@pytest.mark.parametrize("protocol", ["udp", "tcp", "tls"])
async def test_rsyslog_takes_every_event_apart_as_it_was_meant(
    rsyslog: Path, ports: dict[str, int], protocol: str
) -> None:
    settings: dict[str, Any] = {"address": f"127.0.0.1:{ports[protocol]}", "protocol": protocol, "facility": "local5"}
    if protocol == "tls":
        settings |= {"ca_file": rsyslog / "ca.pem", "server_name": "localhost"}
    before = len(received(rsyslog, "certificate_issued"))
    opened = syslog_sink.PROVIDER.open(syslog_sink.SyslogSettings(**settings), make_services(rsyslog))
    async with opened as sink:
        for _ in range(20):
            await sink.emit(ISSUED)
    wait_until(lambda: len(received(rsyslog, "certificate_issued")) == before + 20)
    for priority, app_name, _, structured_data, message in received(rsyslog, "certificate_issued")[before:]:
        assert (priority, app_name) == (str(21 * 8 + 5), "kipuka")
        assert structured_data.startswith('[kipuka@32473 event="certificate_issued"')
        assert r'actor="de\"v\]ice\\"' in structured_data
        assert json.loads(message) == ISSUED.as_dict()
