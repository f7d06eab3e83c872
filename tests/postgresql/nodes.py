"""Servers on one PostgreSQL: each a node with a state directory of its own, all with the same CA and certificate."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kipuka_core.testing.server import Deployment, running_server
from tests.postgresql.cluster import Cluster
from tests.system.admin_kit import ADMIN_CA
from tests.system.admin_site import TOKENS, TOML, AdminSite
from tests.system.status_kit import HTTP
from tests.system.system_kit import System, deploy


@dataclass(kw_only=True)
class Node(System):
    """A server whose database is on a cluster."""

    cluster: Cluster
    database: str

    @property
    def database_url(self) -> str:
        return self.cluster.url(self.database)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.cluster.rows(self.database, sql.replace("?", "%s"), *values)

    @property
    def site(self) -> AdminSite:
        """The node as administrators use it."""
        return AdminSite(self)


def make_nodes(
    directory: Path, cluster: Cluster, database: str, *, count: int = 1, workers: int = 2, toml: str = ""
) -> list[Deployment]:
    """The files of nodes, as an operator copies them from the first one before its first start."""
    url = f'[db]\nurl = "{cluster.url(database)}"\n'
    first = deploy(directory / "node-0", f"{TOML}{url}{toml}", server=HTTP, workers=workers)
    (first.directory / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    others = [directory / f"node-{number}" for number in range(1, count)]
    for other in others:
        shutil.copytree(first.directory, other)
        (other / "state" / "audit.key").unlink(missing_ok=True)  # each has its own
    return [first, *map(Deployment, others)]


@contextmanager
def serving_nodes(deployments: list[Deployment], cluster: Cluster, database: str) -> Iterator[list[Node]]:
    """Run them."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running_server(each, environment=TOKENS)) for each in deployments]
        yield [
            Node(deployment, server, cluster=cluster, database=database)
            for deployment, server in zip(deployments, servers, strict=True)
        ]


@contextmanager
def one_node(directory: Path, cluster: Cluster, *, toml: str = "", workers: int = 2) -> Iterator[Node]:
    """A server with a new database."""
    with cluster.fresh() as database:
        deployments = make_nodes(directory, cluster, database, toml=toml, workers=workers)
        with serving_nodes(deployments, cluster, database) as (node,):
            yield node
