"""The deployments of ``examples/`` run as they are: only paths, addresses and ports become those of the test."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kipuka_core.cli.bootstrap import make_embedded_ca
from kipuka_core.model.key_type import KeyType
from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import Leaf, make_csr, make_key, make_root
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, RunningServer, running_server
from tests.docs.blocks import ROOT, blocks_of
from tests.interop.programs import run

EXAMPLES = ROOT / "examples" / "deployments"
SITE_ROOT = make_root("Site Root CA")
SITE_CA = SITE_ROOT.subordinate("Site Server CA")
"""Issues the server certificates; devices know its root beforehand."""
VENDOR = make_root("Vendor Device CA")
OTHER_VENDOR = make_root("Other Vendor Root CA").subordinate("Other Vendor Device CA")
"""The two CAs of devices: a root, and an issuing CA without its root."""
ADMIN_CA = make_root("Admin CA")
STRANGER = make_root("Stranger CA")
"""Nobody trusts it."""
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def here(text: str, directory: Path) -> str:
    """A deployment's file for this machine: any free port, its addresses on the loopback network, its files here."""
    for theirs, ours in {
        "/etc/kipuka/": f"{directory}/",
        '"192.0.2.': '"127.0.0.',
        ':8443"': ':0"',
        ':9443"': ':0"',
    }.items():
        text = text.replace(theirs, ours)
    return text


class _Connection(http.client.HTTPSConnection):
    """To an address, where TLS expects ``localhost``."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__("localhost", address[1], context=context, timeout=60)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection(self._address, timeout=60)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise


class DeviceClient(EstClient):
    """An EST client that connects to the address that it is told."""

    def __init__(self, address: tuple[str, int], ca_file: Path, **more: Any) -> None:
        super().__init__(address[1], ca_file, **more)
        self._address = address

    def connect(self) -> http.client.HTTPSConnection:
        return _Connection(self._address, self.context)


@dataclass(frozen=True, slots=True)
class Site:
    """A deployment that runs."""

    server: RunningServer
    est: tuple[str, int]
    """Where EST is served, as the server says it."""
    admin_at: tuple[str, int]

    @property
    def directory(self) -> Path:
        return self.server.deployment.directory

    @property
    def ca_file(self) -> Path:
        """Whom clients trust to name servers."""
        return self.directory / "server-ca.pem"

    def client(self, leaf: Leaf | None = None, *, tls: str = "", suites: str = "", address: str = "") -> DeviceClient:
        """A device. ``tls`` is its one version, ``suites`` all that it has for TLS 1.2 (an OpenSSL list)."""
        host, port = self.est
        client = self._client((address or _reachable(host), port), leaf, _VERSIONS.get(tls))
        if suites:
            client.context.set_ciphers(suites)
        return client

    def admin(self, leaf: Leaf | None = None) -> DeviceClient:
        """A client of the admin listener."""
        return self._client(self.admin_at, leaf, None, base_path="/admin")

    def otp(self, entity_id: str, *options: str) -> str:
        """A one-time password."""
        state_dir = str(self.directory / "state")
        made = self.server.deployment.kipuka("otp", "create", entity_id, *options, KIPUKA_STATE_DIR=state_dir)
        return made.stdout.strip()

    def enrolled(self, entity_id: str) -> Leaf:
        """A device with a certificate from here, by a one-time password."""
        key = make_key()
        answer = self.client().enrol(make_csr(key, entity_id), user=entity_id, password=self.otp(entity_id))
        return Leaf(answer.certificate(), key)

    def warnings(self) -> str:
        """What the server said at its start that an operator should know, but for who runs these tests."""
        said = (line["warning"] for line in self.server.log() if line.get("event") == "configuration")
        return "\n".join(each for each in said if not each.startswith("the server runs as root"))

    def _client(
        self, address: tuple[str, int], leaf: Leaf | None, tls: ssl.TLSVersion | None, **more: Any
    ) -> DeviceClient:
        directory = self.directory if leaf else None
        return DeviceClient(address, self.ca_file, leaf=leaf, directory=directory, tls=tls, **more)


@contextmanager
def running_site(name: str, directory: Path) -> Iterator[Site]:
    """Run ``examples/deployments/NAME.toml`` with the certificates that docs/tls.md has its operator make."""
    _make_files(directory)
    deployment = Deployment(directory)
    deployment.toml.write_text(here(text_of(name), directory), encoding="utf-8")
    with running_server(deployment, environment={"KIPUKA_STATE_DIR": str(directory / "state")}) as server:
        (line,) = (line for line in server.log() if line.get("event") == "listening")
        yield Site(server, _address(line["est"]), _address(line["admin"]))


def text_of(name: str) -> str:
    """A deployment's file as its operator gets it."""
    return (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")


def is_served(address: tuple[str, int]) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(address, timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


def ends_in_the_handshake(client: EstClient, path: str = "cacerts") -> bool:
    """Whether the server gives this client no answer at all, not even to what needs no authentication."""
    try:
        client.request("GET", path)
    except (ssl.SSLError, ConnectionError):  # with TLS 1.3 a client learns it at its first request
        return True
    return False


def signed_by_another_key(entity_id: str) -> bytes:
    """A CSR for one key that another key has signed."""
    csr_der = make_csr(make_key("rsa2048"), entity_id)
    csr = x509.load_der_x509_csr(csr_der)
    another = make_key("rsa2048")
    assert isinstance(another, rsa.RSAPrivateKey)
    signature = another.sign(csr.tbs_certrequest_bytes, padding.PKCS1v15(), hashes.SHA256())
    return csr_der.replace(csr.signature, signature)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _make_files(directory: Path) -> None:
    """What the deployments name, and the embedded CA."""
    (directory / "state").mkdir(mode=0o700)
    make_embedded_ca(directory / "state" / "ca", KeyType.ECDSA256, organization="Example")
    tls = directory / "tls"
    tls.mkdir(mode=0o700)
    server = SITE_CA.server()
    (tls / "server.pem").write_bytes(server.chain_pem)
    write_private(tls / "server.key", server.key_pem)
    for bundle in ("client-cas.pem", "device-cas.pem"):
        (tls / bundle).write_bytes(VENDOR.pem + OTHER_VENDOR.pem)
    (tls / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    _make_self_signed(tls)
    (directory / "server-ca.pem").write_bytes(SITE_ROOT.pem + (tls / "self-signed.pem").read_bytes())


def _make_self_signed(tls: Path) -> None:
    """With the very line of docs/tls.md."""
    (block,) = (block for block in blocks_of("docs/tls.md") if "-keyout self-signed.key" in block.text)
    run("sh", "-eu", "-c", block.text, cwd=tls)
