"""The story of the README of kipuka-key-attestation, told with whatever kipuka this Python has; prints what happened.

Run as a program: ``python attested_enrolment.py DIRECTORY README``.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import Authority, Leaf, make_csr, make_root
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server


def _configure(deployment: Deployment, readme: Path, vendor: Authority) -> None:
    """The configuration of the README."""
    block = re.search(r"```toml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    deployment.configure(block[1])
    (deployment.directory / "vendor-attestation-root.pem").write_bytes(vendor.pem)


def _enrol(server: RunningServer, csr_der: bytes) -> Answer:
    return server.client().enrol(csr_der, user="pump-7", password=server.otp("pump-7"))


def _refusal(answer: Answer) -> str:
    return f"{answer.status}: {answer.text.splitlines()[0]}"


def tell(directory: Path, readme: Path) -> dict[str, object]:
    """What happens, step by step."""
    sys.path.insert(0, str(readme.parent / "tests"))
    device: Any = import_module("attesting_device")
    vendor = make_root("Vendor Attestation Root")
    element = vendor.subordinate("Secure Element 4711")
    deployment = make_deployment(directory)
    _configure(deployment, readme, vendor)
    happened: dict[str, object] = {}
    toml = deployment.toml.read_text(encoding="utf-8")
    deployment.toml.write_text(toml.replace('enable = ["key-attestation"]', ""), encoding="utf-8")
    happened["installed and not enabled"] = deployment.kipuka("check", check=False).stderr
    deployment.toml.write_text(toml, encoding="utf-8")
    key, other = device.make_element_key(), device.make_element_key()

    def attested(evidence_der: bytes, of: Any = key) -> bytes:
        csr_der: bytes = device.attested_csr(of, evidence_der, common_name="pump-7")
        return csr_der

    with running_server(deployment) as server:
        wanted = base64.b64decode(server.client().request("GET", "csrattrs").body)
        happened["devices are told"] = bytes.fromhex("060b2a864886f70d010910023b") in wanted  # id-aa-evidence
        answer = _enrol(server, attested(device.attestation(element, key)))
        happened["attested"] = answer.status
        issued = answer.certificate()
        happened["the certificate names the element"] = b"Secure Element" in issued.public_bytes(Encoding.DER)
        happened["without evidence"] = _refusal(_enrol(server, make_csr(other, "pump-7")))
        of_key = device.attestation(element, key)
        happened["evidence of another key"] = _refusal(_enrol(server, attested(of_key, other)))
        stranger = make_root("Vendor Attestation Root").subordinate()
        happened["another vendor"] = _refusal(_enrol(server, attested(device.attestation(stranger, key))))
        happened["nonsense"] = _refusal(_enrol(server, attested(b"\x05\x00")))
        client = server.client(Leaf(issued, key))
        renewed = client.reenrol(attested(device.attestation(element, other), other))
        happened["renewal, a new key in the element"] = renewed.status
        happened["renewal, a key from elsewhere"] = client.reenrol(make_csr(common_name="pump-7")).status
    (directory / "vendor-attestation-root.pem").write_bytes(deployment.root_pem.read_bytes())
    happened["with a CA of devices"] = deployment.kipuka("check", check=False).stderr
    return happened


if __name__ == "__main__":
    sys.stdout.write(json.dumps(tell(Path(sys.argv[1]), Path(sys.argv[2]))))
