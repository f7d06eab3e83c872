"""``cfssl serve`` with a CA, profiles and a certificate database of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kipuka_core.testing.pki import Authority, Leaf, make_root
from kipuka_core.testing.server import wait_until

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
USAGES = ["digital signature", "client auth"]
DECIDED = {
    "sets_validity_days": 30,
    "sets_key_usage": ["digitalSignature"],
    "sets_ext_key_usage": ["clientAuth"],
}
"""What the profiles below do, as kipuka's settings say it."""
_SCHEMA = """
CREATE TABLE certificates (
  serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, ca_label blob, status blob NOT NULL, reason int,
  expiry timestamp, revoked_at timestamp, pem blob NOT NULL, PRIMARY KEY(serial_number, authority_key_identifier)
);
CREATE TABLE ocsp_responses (
  serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, body blob NOT NULL, expiry timestamp,
  PRIMARY KEY(serial_number, authority_key_identifier),
  FOREIGN KEY(serial_number, authority_key_identifier) REFERENCES certificates(serial_number, authority_key_identifier)
);
"""
"""As CFSSL documents it (certdb/sqlite/migrations); Debian's package has no migrations."""


@dataclass
class Cfssl:
    """A CFSSL, running between :meth:`start` and :meth:`kill`, always on the same port."""

    directory: Path
    root: Authority
    authority: Authority
    port: int
    tls: Leaf | None = None
    clients: Authority | None = None
    """Whose client certificates it wants, with TLS."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.directory / "certs.db"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the profile that chooses serial numbers itself."""
        settings = {
            "url": self.url,
            "profile": "device",
            "auth_key_file": str(self.directory / "auth-key"),
            "chain": str(self.directory / "root.pem"),
            **DECIDED,
        }
        if self.tls:
            settings["trust_anchors"] = str(self.directory / "root.pem")
        return settings

    @property
    def settings_with_serials(self) -> dict[str, Any]:
        """Of the profile that wants serial numbers, with everything that the database makes possible."""
        more = {"profile": "serials", "client_serials": True, "certdb": str(self.database), "revoke": True}
        return self.settings | more

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.directory / "cfssl.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "cfssl", "serve", "-address", "127.0.0.1", "-port", str(self.port), "-loglevel", "0",
                    "-ca", "ca.pem", "-ca-key", "ca-key.pem", "-config", "config.json", "-db-config", "db.json",
                    *self._tls_options(),
                ],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(self._listens, what=lambda: f"cfssl:\n{self.log()}")

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def suspend(self) -> None:
        """It takes connections, as the kernel does that, and says nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def log(self) -> str:
        return (self.directory / "cfssl.log").read_text()

    def rows(self, columns: str = "serial_number, status, reason") -> list[tuple[Any, ...]]:
        """What is in its database."""
        with closing(sqlite3.connect(self.database)) as database:
            return database.execute(f"SELECT {columns} FROM certificates").fetchall()

    def issued(self) -> list[x509.Certificate]:
        """Every certificate in its database."""
        return [x509.load_pem_x509_certificate(pem.encode()) for (pem,) in self.rows("pem")]

    def configure(self, **profiles: Any) -> None:
        """Write its configuration: the usual profiles and these; for the next start."""
        profile = {"expiry": "720h", "usages": USAGES, "auth_key": "kipuka"}
        usual = {"device": profile, "serials": profile | {"ClientProvidesSerialNumbers": True}}
        signing = {"default": {"expiry": "1h", "usages": ["server auth"]}, "profiles": usual | profiles}
        keys = {"kipuka": {"type": "standard", "key": KEY}}
        (self.directory / "config.json").write_text(json.dumps({"signing": signing, "auth_keys": keys}))

    def _tls_options(self) -> list[str]:
        options = ["-tls-cert", "tls.pem", "-tls-key", "tls-key.pem"] if self.tls else []
        return [*options, "-mutual-tls-ca", "clients.pem"] if self.clients else options

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with closing(socket.socket()) as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


def make_cfssl(directory: Path, *, tls: bool = False, clients: Authority | None = None, ca_days: int = 1000) -> Cfssl:
    """A CFSSL whose CA is below a root, not started yet."""
    assert shutil.which("cfssl"), "cfssl is missing: run tests/interop/install-system-packages (as root)"
    directory.mkdir(parents=True)
    root = make_root("CFSSL Test Root")
    authority = root.subordinate("CFSSL Test CA", days=ca_days)
    server = root.server("dns:localhost", "ip:127.0.0.1") if tls else None
    made = Cfssl(directory, root, authority, free_port(), server, clients)
    (directory / "root.pem").write_bytes(root.pem)
    (directory / "ca.pem").write_bytes(authority.pem)
    _write_key(directory / "ca-key.pem", authority.key)
    if server:
        (directory / "tls.pem").write_bytes(server.chain_pem)
        _write_key(directory / "tls-key.pem", server.key)
    if clients:
        (directory / "clients.pem").write_bytes(clients.pem)
    (directory / "auth-key").write_text(f"{KEY}\n")
    (directory / "auth-key").chmod(0o600)
    (directory / "db.json").write_text(json.dumps({"driver": "sqlite3", "data_source": "certs.db"}))
    with closing(sqlite3.connect(made.database)) as database:
        database.executescript(_SCHEMA)
    made.configure()
    return made


@contextmanager
def running_cfssl(made: Cfssl) -> Iterator[Cfssl]:
    """From its start to its end, whatever happens between."""
    made.start()
    try:
        yield made
    finally:
        made.kill()


def free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def _write_key(file: Path, key: Any) -> None:
    """CFSSL 1.2.0 reads EC keys in their traditional form."""
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    file.chmod(0o600)
