"""The systemd unit: what systemd says of it, and the server on a machine that is confined as the unit says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kipuka_core.config.sections.server import Server
from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import Leaf, make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.docs.blocks import blocks_of
from tests.examples.unit_sandbox import SYSUSERS, UNIT, Machine, unit_lines
from tests.interop.programs import run

_STOP_SECONDS = 60


# -- what systemd says -------------------------------------------------------------------------------------------------
def test_systemd_rates_the_sandbox_well() -> None:
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", UNIT)  # an exposure of 2.0


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    here = UNIT.read_text(encoding="utf-8").replace("/opt/kipuka/", f"{sys.prefix}/")
    (tmp_path / UNIT.name).write_text(here, encoding="utf-8")
    assert run("systemd-analyze", "verify", "--man=no", tmp_path / UNIT.name).stderr.decode() == ""


def test_the_user_of_the_unit_is_the_one_that_the_snippet_makes() -> None:
    run("systemd-sysusers", "--dry-run", SYSUSERS)
    (line,) = (line for line in SYSUSERS.read_text().splitlines() if not line.startswith("#"))
    assert [line.split()[1]] == unit_lines()["User"]


def test_the_limits_of_the_unit_are_above_those_of_the_server() -> None:
    server, unit = Server(), unit_lines()
    assert int(unit["LimitNOFILE"][0]) >= server.max_connections + 1024
    assert int(unit["TimeoutStopSec"][0]) > server.shutdown_timeout + 5  # and until the supervisor kills what is left


# -- the server in the sandbox; these tests need root ------------------------------------------------------------------
@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Set up as docs/getting-started.md says, but for a name that the tests can reach."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    (block,) = (block for block in blocks_of("docs/getting-started.md") if "systemd-sysusers" in block.text)
    machine.as_root(block.text.replace("--host est.example.com", "--host localhost"))
    toml = machine.etc / "kipuka" / "kipuka.toml"
    text = toml.read_text(encoding="utf-8")
    toml.write_text(text.replace('0.0.0.0:8443"', '127.0.0.1:0"').replace(':9443"', ':0"'), encoding="utf-8")
    return machine


@pytest.fixture(scope="module")
def service(machine: Machine) -> Iterator[Service]:
    with started(machine) as running:
        yield running


class Service:
    """``ExecStart`` of the unit, running."""

    def __init__(self, machine: Machine, process: subprocess.Popen[bytes], log: Path) -> None:
        self.machine = machine
        self.process = process
        self._log = log
        wait_until(self._listens, what=log.read_text)

    def client(self, leaf: Leaf | None = None) -> EstClient:
        (line,) = self.lines("listening")
        port = int(str(line["est"]).rpartition(":")[2])
        directory = self.machine.directory if leaf else None
        return EstClient(port, self.machine.state / "ca" / "root.pem", leaf=leaf, directory=directory)

    def lines(self, event: str) -> list[dict[str, object]]:
        """Lines of the log about an event."""
        lines = (json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}"))
        return [line for line in lines if line.get("event") == event]

    def _listens(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return bool(self.lines("listening"))


@contextmanager
def started(machine: Machine) -> Iterator[Service]:
    """Start it, and see it stop as systemd stops it: SIGTERM for the one process that it started."""
    log = machine.directory / "journal"
    with log.open("wb") as output:
        process = subprocess.Popen(
            machine.unit_command("ExecStart"), env=machine.environment, cwd="/", stdout=output, stderr=output
        )
    try:
        yield Service(machine, process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_STOP_SECONDS) == 0
    finally:
        process.kill()  # does nothing to one that has ended
        process.wait()


@pytest.mark.interop
@pytest.mark.parametrize(
    ("attempt", "complaint"),
    [
        ("open('/etc/kipuka/new', 'w')", "Read-only file system"),
        ("open('/etc/kipuka/tls/server.key', 'a')", "Read-only file system"),
        ("open('/var/new', 'w')", "Read-only file system"),
        ("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)", "Operation not permitted"),
        ("import socket; socket.socket(socket.AF_NETLINK)", "Address family not supported"),
        ("import os; os.chroot('/')", "Operation not permitted"),
        ("import os; os.setuid(0)", "Operation not permitted"),
    ],
)
def test_the_sandbox_is_one(machine: Machine, attempt: str, complaint: str) -> None:
    done = machine.run(sys.executable, "-c", attempt)
    assert (done.returncode, complaint in done.stderr) == (1, True), done.stderr


@pytest.mark.interop
def test_the_check_before_the_start_passes(machine: Machine) -> None:
    done = machine.run_command(machine.unit_command("ExecStartPre"))
    assert done.returncode == 0, done.stderr
    assert "channel binding is not available" not in done.stdout  # ctypes and cffi work without writable code


@pytest.mark.interop
def test_a_device_enrols_and_renews(service: Service) -> None:
    made = service.machine.run("/opt/kipuka/bin/kipuka", "otp", "create", "device-1")
    assert made.returncode == 0, made.stderr
    key = make_key()
    csr = make_csr(key, "device-1")
    device = Leaf(service.client().enrol(csr, user="device-1", password=made.stdout.strip()).certificate(), key)
    assert service.client(device).reenrol(csr).certificate().subject == device.certificate.subject


@pytest.mark.interop
def test_all_that_is_written_is_private(service: Service) -> None:
    written = {path for path in service.machine.state.rglob("*") if path.is_file() and path.suffix != ".pem"}
    assert {path.name for path in written} >= {"kipuka.db", "audit.jsonl"}
    assert [path for path in written if path.stat().st_mode & 0o077] == []


@pytest.mark.interop
def test_reload_says_how_it_went(service: Service) -> None:
    machine, certificate = service.machine, service.machine.etc / "kipuka" / "tls" / "server.pem"
    reload = machine.unit_command("ExecReload")

    good = machine.run_command(reload)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("reloaded, ")

    content = certificate.read_bytes()
    certificate.write_bytes(b"nothing\n")
    bad = machine.run_command(reload)
    certificate.write_bytes(content)
    assert (bad.returncode, "not reloaded" in bad.stderr) == (1, True)
    assert service.client().request("GET", "cacerts").status == 200
