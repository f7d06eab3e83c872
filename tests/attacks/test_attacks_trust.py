"""An anchor that an operator takes away is gone after SIGHUP, for new connections and for those that are kept."""

from __future__ import annotations

import http.client
import signal
import ssl
from pathlib import Path

from kipuka_core.testing.client import Answer, EstClient
from kipuka_core.testing.pki import Authority, Leaf, make_csr, make_key, make_root
from kipuka_core.testing.server import RunningServer, make_deployment, running_server


def trust_only(server: RunningServer, file: Path, authority: Authority) -> None:
    file.write_bytes(authority.pem)
    before = len([line for line in server.log() if line.get("event") == "TLS material reloaded"])
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log(lambda line: line.get("event") == "TLS material reloaded", count=before + 2)  # est-1 and admin


def enrolled(client: EstClient, name: str, connection: http.client.HTTPSConnection | None = None) -> Answer:
    return client.enrol(make_csr(make_key(), name), connection=connection)


def accepts(client: EstClient, name: str) -> bool:
    try:
        return enrolled(client, name).status == 200
    except (ssl.SSLError, ConnectionError):
        return False


def test_sighup_replaces_the_anchors_that_tls_and_mtls_trust(tmp_path: Path) -> None:
    old, new = make_root("Old Vendor CA"), make_root("New Vendor CA")
    devices: dict[str, Leaf] = {"old-device": old.leaf("old-device"), "new-device": new.leaf("new-device")}
    deployment = make_deployment(tmp_path / "deployment")
    file = deployment.directory / "vendor.pem"
    file.write_bytes(old.pem)
    deployment.configure("", client_auth='trust_anchors = ["state/ca/root.pem", "vendor.pem"]\n')
    with running_server(deployment) as server:
        clients = {
            name: EstClient(server.est_port, deployment.root_pem, leaf=leaf, directory=deployment.directory)
            for name, leaf in devices.items()
        }
        kept = clients["old-device"].connect()
        assert enrolled(clients["old-device"], "old-device", kept).status == 200
        assert not accepts(clients["new-device"], "new-device")

        trust_only(server, file, new)

        assert accepts(clients["new-device"], "new-device")
        assert not accepts(clients["old-device"], "old-device")
        assert enrolled(clients["old-device"], "old-device", kept).status == 401
        kept.close()
