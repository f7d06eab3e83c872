"""Files with secrets that others can read: a warning each, and with ``strict_permissions`` the end of the start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest
from cryptography.hazmat.primitives import serialization

from kipuka_core.testing.pki import key_pem
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, make_deployment
from tests.startup.starting import check

pytestmark = pytest.mark.long

PASSWORD = b"a password of a test"
CA = 'id = "one"\ncert = "state/ca/issuing.pem"\nchain = "state/ca/root.pem"\n'
STRICT = "strict_permissions = true"


@dataclass(frozen=True, slots=True)
class Secret:
    """A file with a secret, and a deployment that uses it."""

    name: str
    file: str
    prepare: Callable[[Deployment], str]
    """Makes the file, and returns what ``kipuka.toml`` needs for it."""
    mode: str = "0644"
    better: str = "0600"


def encrypted(deployment: Deployment, key: str) -> None:
    file = deployment.directory / key
    loaded = serialization.load_pem_private_key(file.read_bytes(), None)
    write_private(file, key_pem(loaded, PASSWORD))  # type: ignore[arg-type]  # a key that signs


def with_password(deployment: Deployment, name: str) -> None:
    write_private(deployment.directory / name, PASSWORD + b"\n")


def admin_key(deployment: Deployment) -> str:
    for name in ("server.pem", "server.key"):
        shutil.copy(deployment.directory / "tls" / name, deployment.directory / name.replace("server", "admin"))
    return '[admin.tls]\ncert = "admin.pem"\nkey = "admin.key"\n'


def ca_key_password_in_the_uri(deployment: Deployment) -> str:
    encrypted(deployment, "state/ca/issuing.key")
    with_password(deployment, "ca.password")
    return f'[[ca]]\n{CA}key = "file:state/ca/issuing.key?password-file=ca.password"\n'


def ca_key_password_of_the_store(deployment: Deployment) -> str:
    encrypted(deployment, "state/ca/issuing.key")
    with_password(deployment, "store.password")
    return '[key_store.file]\npassword_file = "store.password"\n'


def tls_key_password(deployment: Deployment) -> str:
    encrypted(deployment, "tls/server.key")
    with_password(deployment, "tls.password")
    return ""


def users(deployment: Deployment) -> str:
    hashed = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
    write_private(deployment.directory / "users", f"ana:{hashed}\n".encode())
    return '[auth]\norder = ["mtls", "basic"]\n[auth.basic]\nusers_file = "users"\n'


SECRETS = [
    Secret("the TLS key", "tls/server.key", lambda _: ""),
    Secret("the TLS key, group only", "tls/server.key", lambda _: "", mode="0640"),
    Secret("the TLS key's password", "tls.password", tls_key_password),
    Secret("the admin listener's key", "admin.key", admin_key),
    Secret("the CA's key", "state/ca/issuing.key", lambda _: ""),
    Secret("the CA key's password, in its URI", "ca.password", ca_key_password_in_the_uri),
    Secret("the CA key's password, of the key store", "store.password", ca_key_password_of_the_store),
    Secret("the users of HTTP Basic", "users", users, better="0640"),
]


def deployed(secret: Secret, directory: Path, *, server: str = "") -> tuple[Deployment, Path]:
    deployment = make_deployment(directory)
    deployment.configure(secret.prepare(deployment), server=server)
    if secret.prepare is tls_key_password:
        text = deployment.toml.read_text()
        deployment.toml.write_text(text.replace("[tls]\n", '[tls]\nkey_password_file = "tls.password"\n'))
    return deployment, directory / secret.file


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.name)
def test_others_can_read(secret: Secret, tmp_path: Path) -> None:
    deployment, file = deployed(secret, tmp_path)
    assert str(file) not in check(deployment).stdout.replace("ok", "")

    file.chmod(int(secret.mode, 8))

    outcome = check(deployment)
    line = f"{file}: mode {secret.mode} lets others use it; run: chmod {secret.better} {file}"
    assert outcome.code == 0
    assert outcome.stdout.splitlines().count(f"warning: {line}") == 1
    assert PASSWORD.decode() not in outcome.stdout


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.name)
def test_others_can_read_and_permissions_are_strict(secret: Secret, tmp_path: Path) -> None:
    deployment, file = deployed(secret, tmp_path, server=STRICT)
    assert check(deployment).code == 0
    file.chmod(int(secret.mode, 8))

    line = check(deployment).only_line()

    assert f"{file}: mode {secret.mode} lets others use it; run: chmod {secret.better} {file}" in line
