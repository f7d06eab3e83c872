"""A real server in real processes, on free ports, for tests; and what it needs, made in one directory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kipuka_core.cli.init import prepare
from kipuka_core.model.key_type import KeyType
from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import Leaf

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_POLL_SECONDS = 0.02
_TLS_TABLE = re.compile(r"^\s*\[\s*tls\s*\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The files of a server: ``kipuka.toml``, ``state/ca/*``, ``tls/server.*``, as ``kipuka init`` makes them."""

    directory: Path

    @property
    def toml(self) -> Path:
        """The configuration."""
        return self.directory / "kipuka.toml"

    @property
    def root_pem(self) -> Path:
        """The embedded CA's root."""
        return self.directory / "state" / "ca" / "root.pem"

    @property
    def database(self) -> Path:
        """The SQLite file; there once the server (or a command) has run."""
        return self.directory / "state" / "kipuka.db"

    @property
    def audit_log(self) -> Path:
        """What the ``jsonl`` sink writes."""
        return self.directory / "state" / "audit.jsonl"

    def configure(self, toml: str, *, workers: int = 1, server: str = "", client_auth: str = "") -> None:
        """Write ``kipuka.toml``: free ports, the files of this directory, then ``toml``.

        ``server`` and ``client_auth`` are further lines for ``[server]`` and ``[tls.client_auth]``. A ``[tls]`` in
        ``toml`` takes the place of that with the files.
        """
        tls = "" if _TLS_TABLE.search(toml) else '[tls]\ncert = "tls/server.pem"\nkey = "tls/server.key"\n'
        mode = "" if "mode" in client_auth else 'mode = "optional"\n'
        anchors = "" if "trust_anchors" in client_auth else 'trust_anchors = "state/ca/root.pem"\n'
        self.toml.write_text(
            f'[server]\nlisten = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\nstate_dir = "state"\n'
            f"workers = {workers}\n"
            f"{server}\n{tls}[tls.client_auth]\n{mode}{anchors}{client_auth}\n{toml}\n",
            encoding="utf-8",
        )

    def kipuka(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a ``kipuka`` command on this deployment: ``kipuka("otp", "create", "device")``."""
        command = [sys.executable, "-m", "kipuka_core.cli", *arguments]
        return subprocess.run(  # noqa: S603  # our own command, without a shell
            command,
            cwd=self.directory,
            env={**os.environ, "KIPUKA_CONFIG": str(self.toml), **environment},
            capture_output=True,
            text=True,
            check=check,
            timeout=_START_SECONDS,
        )

    def otp(self, entity_id: str, *options: str) -> str:
        """Make a one-time password; the token."""
        return self.kipuka("otp", "create", entity_id, *options).stdout.strip()


def make_deployment(directory: Path, *, key_type: KeyType = KeyType.ECDSA256) -> Deployment:
    """A deployment with an embedded CA and a server certificate for localhost and 127.0.0.1."""
    prepare(
        directory,
        hosts=("localhost", "127.0.0.1"),
        organization="Kipuka Test",
        key_type=key_type,
        listen="127.0.0.1:0",
        admin_listen="127.0.0.1:0",
    )
    deployment = Deployment(directory)
    deployment.configure("")
    return deployment


@dataclass(slots=True)
class RunningServer:
    """``kipuka serve``, ready."""

    deployment: Deployment
    process: subprocess.Popen[bytes]
    log_file: Path
    est_port: int
    admin_port: int
    http_port: int | None = None
    """Of ``[server] http_listen``, where it is set."""

    @property
    def est_url(self) -> str:
        """``https://localhost:PORT/.well-known/est``."""
        return f"https://localhost:{self.est_port}/.well-known/est"

    def client(self, leaf: Leaf | None = None, *, base_path: str = "/.well-known/est") -> EstClient:
        """A client that trusts the embedded CA; it presents ``leaf``, if there is one."""
        root = self.deployment.root_pem
        return EstClient(self.est_port, root, leaf=leaf, directory=self.deployment.directory, base_path=base_path)

    def otp(self, entity_id: str, *options: str) -> str:
        """Make a one-time password, as :meth:`Deployment.otp` does; the token."""
        return self.deployment.otp(entity_id, *options)

    def log(self) -> list[dict[str, Any]]:
        """Every JSON line of the log so far."""
        return _log_lines(self.log_file)

    def worker_pids(self) -> dict[str, int]:
        """The newest process of every worker (``est-1``, …, ``admin``) that said it is ready."""
        found: dict[str, int] = {}
        for line in self.log():
            if line.get("what") == "worker_ready" and (match := re.search(r"\d+", line["detail"])):
                found[line["worker"]] = int(match[0])
        return found

    def wait_for_log(self, condition: Callable[[dict[str, Any]], bool], *, count: int = 1) -> list[dict[str, Any]]:
        """Wait until ``count`` log lines meet the condition, and return them."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found[:] = [line for line in self.log() if condition(line)]
            return len(found) >= count

        wait_until(enough, what=lambda: f"log lines in\n{self.log_file.read_text(encoding='utf-8')}")
        return found

    def stop(self) -> int:
        """SIGTERM, wait, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def running_server(deployment: Deployment, *, environment: Mapping[str, str] | None = None) -> Iterator[RunningServer]:
    """Start ``kipuka serve``, wait until it serves, and stop it at the end.

    Raises AssertionError with the log when it does not start.
    """
    log_file = deployment.directory / "server.log"
    with log_file.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(  # noqa: S603  # our own command, without a shell
            [sys.executable, "-m", "kipuka_core.cli", "serve", "-c", str(deployment.toml)],
            cwd=deployment.directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        ports = _wait_for_ports(process, log_file, start)
        est_port, admin_port, http_port = ports
        server = RunningServer(deployment, process, log_file, est_port, admin_port, http_port)
        yield server
        server.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], *, what: Callable[[], str] = lambda: "the condition") -> None:
    """Poll until the condition holds; a bounded wait for something that happens as soon as it can."""
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still waiting after {_START_SECONDS:g} s for {what()}")
        time.sleep(_POLL_SECONDS)


def _wait_for_ports(process: subprocess.Popen[bytes], log_file: Path, start: int) -> tuple[int, int, int | None]:
    """The ports of EST, admin API and plain HTTP."""
    ports: dict[str, int] = {}

    def listening() -> bool:
        if process.poll() is not None:
            log = log_file.read_text(encoding="utf-8")[start:]
            raise AssertionError(f"the server ended with {process.returncode}:\n{log}")
        lines = [line for line in _log_lines(log_file, start) if line.get("event") == "listening"]
        if lines:
            ports.update(
                (name, int(lines[-1][name].rpartition(":")[2]))
                for name in ("est", "admin", "http")
                if name in lines[-1]
            )
        return bool(lines)

    wait_until(listening, what=lambda: log_file.read_text(encoding="utf-8"))
    return ports["est"], ports["admin"], ports.get("http")


def _log_lines(file: Path, start: int = 0) -> list[dict[str, Any]]:
    with file.open("rb") as log:
        log.seek(start)
        lines = log.read().splitlines()
    return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
