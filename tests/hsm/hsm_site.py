"""A deployment whose default CA has its key in SoftHSM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import Leaf, make_csr, make_key, make_root
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment
from tests.hsm.softhsm import LIBRARY, SoftHsm
from tests.system.system_kit import System, serving

URI = "pkcs11:token=kipuka;object=issuing"
ADMINS = make_root("Administrators")


@dataclass
class HsmSite:
    """The deployment and its token."""

    deployment: Deployment
    hsm: SoftHsm

    @property
    def ca(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.deployment.directory / "device-ca.pem").read_bytes())

    def configure(
        self, *, library: Path = LIBRARY, workers: int = 1, sessions: int = 2, more: str = "", uri: str = URI
    ) -> None:
        (self.deployment.directory / "admins.pem").write_bytes(ADMINS.pem)
        self.deployment.configure(
            f'[plugins]\nenable = ["hsm"]\n[hsm]\nlibrary = "{library}"\npin_file = "{self.hsm.pin_file}"\n'
            f"sessions = {sessions}\ntimeout = 5\nretry = 1\n{more}\n"
            f'[[ca]]\nid = "devices"\ncert = "device-ca.pem"\nkey = "{uri}"\n'
            '[admin.client_auth]\ntrust_anchors = "admins.pem"\n',
            workers=workers,
        )

    @contextmanager
    def serving(self) -> Iterator[System]:
        with serving(self.deployment, environment=self.hsm.environment) as system:
            yield system

    def admin(self, server: RunningServer, path: str) -> tuple[int, Any]:
        """A page of the admin listener, for an administrator."""
        client = EstClient(
            server.admin_port,
            self.deployment.root_pem,
            leaf=ADMINS.leaf("ana"),
            directory=self.deployment.directory,
            base_path="/admin",
        )
        answer = client.request("GET", path)
        return answer.status, json.loads(answer.body)


def make_site(directory: Path, hsm: SoftHsm, key_type: str = "ecdsa256") -> HsmSite:
    """A key in the token, its CA certificate, and a configuration."""
    site = HsmSite(make_deployment(directory), hsm)
    site.deployment.configure(f'[plugins]\nenable = ["hsm"]\n[hsm]\npin_file = "{hsm.pin_file}"\n')
    site.deployment.kipuka("hsm", "generate", URI, "--key-type", key_type, check=True, **hsm.environment)
    subject = "CN=Device CA,O=Example"
    site.deployment.kipuka(
        "hsm", "self-signed", URI, "--subject", subject, "--out", "device-ca.pem", check=True, **hsm.environment
    )
    site.configure()
    return site


def enrolled(system: System, name: str) -> Leaf:
    """A device with a certificate of the token's CA."""
    key = make_key()
    csr = make_csr(key, name, [f"dns:{name}"])
    return Leaf(system.client().enrol(csr, user=name, password=system.otp(name)).certificate(), key)
