"""The two servers that are compared, each one process on the server's core, with one deployment's keys."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import argon2

from kipuka_core.cli.new_files import write_new
from kipuka_core.model.key_type import KeyType
from kipuka_core.testing.pki import Authority, make_key
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server
from tests.bench.cores import Cores, pin_process, resident_mib, running_on
from tests.bench.floor import BareIssuer
from tests.bench.scenarios import OTP_LABEL, PASSWORD, USER

REPOSITORY = Path(__file__).resolve().parents[2]
_TOML = f"""
[enrollment]
subject_binding = "any"
[auth]
order = ["mtls", "basic"]
[auth.basic]
users_file = "users"
[[est.label]]
name = "{OTP_LABEL}"
auth = ["mtls", "otp"]
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server holds on disk and in memory at one moment."""

    certificates: int
    database_bytes: int
    audit_bytes: int
    resident_mib: float


def prepare(directory: Path, key_type: KeyType) -> Deployment:
    """A deployment whose CA, server certificate and key are of one type; one user, and the label for passwords."""
    deployment = make_deployment(directory, key_type=key_type)
    if key_type is not KeyType.ECDSA256:
        _replace_server_certificate(deployment, key_type)
    users = f"{USER}:{argon2.PasswordHasher().hash(PASSWORD)}\n"
    write_new(directory / "users", users.encode(), 0o600)
    deployment.configure(_TOML)
    return deployment


def _replace_server_certificate(deployment: Deployment, key_type: KeyType) -> None:
    """``kipuka init`` gives every server a P-256 certificate."""
    ca, tls = deployment.directory / "state" / "ca", deployment.directory / "tls"
    issuer = BareIssuer(ca)
    leaf = Authority(issuer.certificate, issuer.key).leaf("localhost", ["dns:localhost"], key=make_key(key_type))
    (tls / "server.key").write_bytes(leaf.key_pem)
    (tls / "server.pem").write_bytes(leaf.certificate_pem + (ca / "issuing.pem").read_bytes())


@contextmanager
def kipuka(deployment: Deployment, cores: Cores) -> Iterator[tuple[RunningServer, Target, float]]:
    """``kipuka serve``, its EST worker on the server's core; also the seconds from its start until it was ready."""
    begin = time.time()
    with running_on(cores.rest), running_server(deployment) as server:
        ready = max(line["time"] for line in server.log() if line.get("event") == "listening")
        pid = server.worker_pids()["est-1"]
        pin_process(pid, cores.server)
        yield server, Target(pid, server.est_port), _epoch(ready) - begin


@contextmanager
def bare(deployment: Deployment, cores: Cores) -> Iterator[Target]:
    """The bare ASGI function on the server's core."""
    command = [sys.executable, "-m", "tests.bench.bare_app", str(deployment.directory)]
    with running_on(cores.server):
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Target(process.pid, int(process.stdout.readline()))
    finally:
        process.terminate()
        process.communicate()


def generate(target: Target, flags: list[str], cores: Cores, *, warmup: float, measured: list[str]) -> dict[str, Any]:
    """Run the generator once; its result. Raises AssertionError with what it says when a request failed."""
    own = [sys.executable, "-m", "tests.bench.generator"]
    named = os.environ.get("KIPUKA_LOAD_GENERATOR")
    common = ["-json", "-tls", "1.3", "-url", f"https://localhost:{target.port}", "-server-pid", str(target.pid)]
    times = ["-warmup", f"{warmup:g}s", *measured]
    with running_on(cores.rest):
        command = [*([named] if named else own), *common, *times, *flags]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def warm_up(target: Target, cores: Cores) -> None:
    """One connection, so that the password's hash is verified once and not by sixteen at a time."""
    flags = ["-op", "simpleenroll", "-keepalive", "-pool", "1", "-user", USER, "-pass", PASSWORD, "-c", "1"]
    generate(target, flags, cores, warmup=0.0, measured=["-n", "5"])


def usage(deployment: Deployment, target: Target) -> Usage:
    """Now; the write-ahead log does not count, it is written back."""
    with closing(sqlite3.connect(f"file:{deployment.database}?mode=ro", uri=True)) as database:
        (certificates,) = database.execute("SELECT count(*) FROM certificates").fetchone()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    audit = deployment.audit_log.stat().st_size
    return Usage(certificates, pages * page_bytes, audit, resident_mib(target.pid))


def _epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
