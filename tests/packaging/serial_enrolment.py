"""The story of the README of kipuka-serial-allowlist, told with whatever kipuka this Python has; prints what happened.

Run as a program: ``python serial_enrolment.py DIRECTORY README``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from kipuka_core.testing.client import Answer, EstClient
from kipuka_core.testing.pki import Authority, Leaf, make_csr, make_key, make_root, name
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server


def _configure(deployment: Deployment, readme: Path, manufacturer: Authority) -> None:
    """The configuration of the README, with the test's ports and server certificate."""
    block = re.search(r"```toml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    client_auth, _, rest = block[1].partition("[plugins]")
    deployment.configure(f"[plugins]{rest}", client_auth=client_auth.partition("[tls.client_auth]\n")[2])
    (deployment.directory / "manufacturer-ca.pem").write_bytes(manufacturer.pem)
    (deployment.directory / "serials.txt").write_text("SN-1\nSN-2\n", encoding="utf-8")


def _idevid(manufacturer: Authority, serial: str) -> Leaf:
    return manufacturer.leaf(subject=name("Model 7", serialNumber=serial))


def _enrol(server: RunningServer, leaf: Leaf, common_name: str, **subject: str) -> tuple[Answer, Leaf | None]:
    key = make_key()
    client = EstClient(server.est_port, server.deployment.root_pem, leaf=leaf, directory=server.deployment.directory)
    answer = client.enrol(make_csr(key, subject=name(common_name, **subject)))
    return answer, Leaf(answer.certificate(), key) if answer.status == 200 else None


def _renew(server: RunningServer, leaf: Leaf) -> Answer:
    client = EstClient(server.est_port, server.deployment.root_pem, leaf=leaf, directory=server.deployment.directory)
    return client.reenrol(make_csr(leaf.key, subject=leaf.certificate.subject))


def tell(directory: Path, readme: Path) -> dict[str, object]:
    """What happens, step by step."""
    manufacturer = make_root("Manufacturer CA")
    deployment = make_deployment(directory)
    _configure(deployment, readme, manufacturer)
    happened: dict[str, object] = {}
    toml = deployment.toml.read_text(encoding="utf-8")
    deployment.toml.write_text(toml.replace('enable = ["serial-allowlist"]', ""), encoding="utf-8")
    happened["installed and not enabled"] = deployment.kipuka("check", check=False).stderr
    deployment.toml.write_text(toml, encoding="utf-8")
    with running_server(deployment) as server:
        answer, device = _enrol(server, _idevid(manufacturer, "SN-1"), "SN-1")
        assert device is not None, answer.text
        happened["in the list"] = answer.status
        happened["not in the list"] = _enrol(server, _idevid(manufacturer, "SN-3"), "SN-3")[0].status
        happened["under the name of another"] = _enrol(server, _idevid(manufacturer, "SN-1"), "SN-2")[0].status
        happened["renewal"] = _renew(server, device).status
        # A CSR may ask for the serialNumber of another device: that is a name, and names are bound to who asks.
        happened["with the serial number of another"] = _enrol(
            server, _idevid(manufacturer, "SN-1"), "SN-1", serialNumber="SN-2"
        )[0].status
        (directory / "serials.txt").write_text("SN-2\n", encoding="utf-8")
        happened["renewal, taken off the list"] = _renew(server, device).status
        (directory / "serials.txt").unlink()
        happened["without a list"] = _enrol(server, _idevid(manufacturer, "SN-2"), "SN-2")[0].status
    happened["start without a list"] = deployment.kipuka("check", check=False).stderr
    return happened


if __name__ == "__main__":
    sys.stdout.write(json.dumps(tell(Path(sys.argv[1]), Path(sys.argv[2]))))
