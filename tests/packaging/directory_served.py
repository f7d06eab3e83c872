"""The story of the README of kipuka-tls-directory, told with whatever kipuka this Python has; prints what happened.

Run as a program: ``python directory_served.py DIRECTORY README``.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import Leaf, make_root
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server, wait_until

_CA = make_root("Site Root CA")


def _configure(deployment: Deployment, readme: Path) -> None:
    """The configuration of the README in a deployment with two workers; there is no other server certificate."""
    block = re.search(r"```toml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    deployment.configure("", workers=2)
    base = re.sub(r"\[tls\]\ncert = .*\nkey = .*\n", "", deployment.toml.read_text(encoding="utf-8"))
    deployment.toml.write_text(base + block[1], encoding="utf-8")
    (deployment.directory / "site-root.pem").write_bytes(_CA.pem)
    (deployment.directory / "tls.d").mkdir()


def _issued(hours_ago: int) -> Leaf:
    ekus = _CA.server().certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    start = datetime.now(UTC) - timedelta(hours=hours_ago)
    return _CA.leaf("localhost", ("dns:localhost",), eku=tuple(ekus), not_before=start)


def _drop(deployment: Deployment, name: str, leaf: Leaf) -> None:
    directory = deployment.directory / "tls.d"
    (directory / f"{name}.pem").write_bytes(leaf.certificate_pem)
    (directory / f"{name}.key").write_bytes(leaf.key_pem)


def _served(server: RunningServer) -> set[bytes]:
    """Certificates that new connections to both listeners see; so many that each worker has its turn."""
    client = EstClient(server.est_port, server.deployment.directory / "site-root.pem")
    other = EstClient(server.admin_port, server.deployment.directory / "site-root.pem")
    return {_seen(each) for each in [client] * 12 + [other]}


def _seen(client: EstClient) -> bytes:
    connection = client.connect()
    connection.connect()
    try:
        assert isinstance(connection.sock, ssl.SSLSocket)
        return connection.sock.getpeercert(binary_form=True) or b""
    finally:
        connection.close()


def tell(directory: Path, readme: Path) -> dict[str, object]:
    """What happens, step by step."""
    deployment = make_deployment(directory)
    _configure(deployment, readme)
    happened: dict[str, object] = {}
    toml = deployment.toml.read_text(encoding="utf-8")
    deployment.toml.write_text(toml.replace('enable = ["directory"]', ""), encoding="utf-8")
    happened["installed and not enabled"] = deployment.kipuka("check", check=False).stderr
    deployment.toml.write_text(toml, encoding="utf-8")
    happened["an empty directory"] = deployment.kipuka("check", check=False).stderr
    first, second = _issued(3), _issued(2)
    _drop(deployment, "first", first)
    with running_server(deployment) as server:
        (seen,) = _served(server)
        happened["the first is served"] = x509.load_der_x509_certificate(seen) == first.certificate
        _drop(deployment, "second", second)
        wait_until(lambda: {x509.load_der_x509_certificate(each) for each in _served(server)} == {second.certificate})
        happened["the second is served"] = True
        for file in (directory / "tls.d").iterdir():
            file.unlink()
        said = server.wait_for_log(lambda line: line["event"] == "upkeep of TLS material")
        happened["nothing is left"] = said[0]["problem"]
        happened["and it serves"] = {x509.load_der_x509_certificate(each) for each in _served(server)} == {
            second.certificate
        }
    return happened


if __name__ == "__main__":
    sys.stdout.write(json.dumps(tell(Path(sys.argv[1]), Path(sys.argv[2]))))
