"""The page docs/postgresql.md, followed from top to bottom on a PostgreSQL of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import Deployment, running_server
from tests.docs.blocks import Block, blocks_of
from tests.postgresql.cluster import Cluster, running_cluster
from tests.postgresql.nodes import Node
from tests.system.system_kit import deploy

pytestmark = [pytest.mark.interop, pytest.mark.long]

PAGE = "docs/postgresql.md"
PLACES = ("db.example", ":5432", "/etc/kipuka/")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One in which nobody has made a role yet."""
    with running_cluster() as running:
        yield running


class Reader:
    """Somebody with a shell, who replaces the page's names with those of the place."""

    def __init__(self, cluster: Cluster, deployment: Deployment) -> None:
        self._cluster = cluster
        self._deployment = deployment

    def text(self, text: str) -> str:
        places = ("127.0.0.1", f":{self._cluster.port}", f"{self._deployment.directory}/")
        for name, place in zip(PLACES, places, strict=True):
            text = text.replace(name, place)
        return text

    def run(self, block: Block) -> str:
        as_administrator = "createdb" in block.text
        environment = {
            **os.environ,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "KIPUKA_CONFIG": str(self._deployment.toml),
            **(self._cluster.administrator() if as_administrator else {}),
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(block.text)],
            cwd=self._deployment.directory,
            env=environment,
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        return done.stdout


def test_the_page_leads_to_a_server_and_its_backup_back_to_it(tmp_path: Path, cluster: Cluster) -> None:
    blocks = list(blocks_of(PAGE))
    (toml,) = (block.text for block in blocks if block.language == "toml")
    make, connect, back_up, make_again, restore = (block for block in blocks if block.language == "sh")
    assert tomllib.loads(toml)["db"]["url"] in connect.text + back_up.text + restore.text

    deployment = deploy(tmp_path / "node")
    reader = Reader(cluster, deployment)
    deployment.configure(reader.text(toml))
    (deployment.directory / "db-root.pem").write_bytes(cluster.root.pem)
    reader.run(make)
    assert "it works" in reader.run(connect)

    with running_server(deployment) as server:
        node = Node(deployment, server, cluster=cluster, database="kipuka")
        token = (deployment.directory / "device-1.otp").read_text().strip()
        csr = make_csr(common_name="device-1")
        certificate = node.client().enrol(csr, user="device-1", password=token).certificate()
        unused = deployment.otp("device-2")
        reader.run(back_up)
        node.client().enrol(make_csr(common_name="device-2"), user="device-2", password=unused).certificate()

    reader.run(make_again)
    reader.run(restore)
    with running_server(deployment) as server:
        node = Node(deployment, server, cluster=cluster, database="kipuka")
        recorded = node.rows("SELECT serial_hex FROM certificates")
        assert recorded == [(f"{certificate.serial_number:x}",)]
        answer = node.client().enrol(make_csr(common_name="device-2"), user="device-2", password=unused)
        node.refused(answer, 401, "withdrawn")
        new = deployment.otp("device-3")
        node.client().enrol(make_csr(common_name="device-3"), user="device-3", password=new).certificate()


def test_a_database_that_cannot_prove_its_name_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    database = cluster.create()
    deployment = deploy(tmp_path / "node")
    (tmp_path / "other.pem").write_bytes((deployment.root_pem).read_bytes())  # a CA, and not the database's
    trusts = f"?sslmode=verify-full&sslrootcert={tmp_path / 'other.pem'}"
    deployment.configure(f'[db]\nurl = "{cluster.url(database, query=trusts)}"')
    done = deployment.kipuka("otp", "list", check=False)
    assert done.returncode == 1
    assert "certificate verify failed" in done.stderr
