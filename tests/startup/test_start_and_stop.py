"""What is left of a server that cannot start, that stops, or that shares its state directory: nothing but its files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server, wait_until
from tests.edges.serving.supervised import gone
from tests.startup.starting import serve

pytestmark = pytest.mark.long


def socket_file(deployment: Deployment) -> Path:
    return deployment.directory / "state" / "control.sock"


def processes_of(deployment: Deployment) -> set[int]:
    """Every process whose command line names this deployment: the supervisor and its workers."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if str(deployment.toml).encode() in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def break_certificate(deployment: Deployment) -> None:
    (deployment.directory / "tls" / "server.pem").write_bytes(b"garbled")


def break_anchors(deployment: Deployment) -> None:
    deployment.configure("", workers=4, client_auth='trust_anchors = "missing.pem"\n')


def break_admin(deployment: Deployment) -> None:
    deployment.configure('[admin.client_auth]\ntrust_anchors = "missing.pem"\n', workers=4)


def break_database(deployment: Deployment) -> None:
    deployment.configure('[db]\nurl = "sqlite:////nowhere/at/all/kipuka.db"\n', workers=4)


@pytest.mark.parametrize("break_", [break_certificate, break_anchors, break_database])
def test_a_start_that_fails_leaves_one_line_no_process_and_no_socket(
    tmp_path: Path, break_: Callable[[Deployment], None]
) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure("", workers=4)
    break_(deployment)

    assert serve(deployment).only_line()

    assert processes_of(deployment) == set()
    assert not socket_file(deployment).exists()


def test_a_listener_that_fails_beside_one_that_serves_already_stops_both_with_one_line(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    break_admin(deployment)

    outcome = serve(deployment)

    errors = [line for line in outcome.stderr.splitlines() if not line.startswith("{")]
    (error,) = errors  # beside what the other listener writes into the log
    assert error.startswith("kipuka: error: admin.client_auth.trust_anchors: ")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert processes_of(deployment) == set()
    assert not socket_file(deployment).exists()


def test_a_stop_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure("", workers=2)
    with running_server(deployment) as server:
        assert len(processes_of(deployment)) == 4
        assert socket_file(deployment).is_socket()
        assert server.stop() == 0
    assert processes_of(deployment) == set()
    assert not socket_file(deployment).exists()


def test_a_killed_supervisor_leaves_no_process_and_the_next_one_starts(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure("", workers=2)
    with running_server(deployment) as server:
        workers = set(server.worker_pids().values())
        server.process.kill()
        server.process.wait()
        for pid in workers:
            gone(pid)
    assert socket_file(deployment).is_socket(), "nobody could take it away"
    refused = deployment.kipuka("reload", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "no server runs with this state_dir" in refused.stderr
    with running_server(deployment):
        done = deployment.kipuka("reload")
        assert done.stdout.startswith("reloaded, est: ")
        assert "a restart reads it" not in done.stdout
        later = socket_file(deployment).stat().st_mtime + 1
        os.utime(deployment.toml, (later, later))
        assert f"note: {deployment.toml} has changed since the server started" in deployment.kipuka("reload").stdout


def test_a_second_server_on_the_same_state_directory_leaves_the_first_its_socket(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)

    def reloads(server: RunningServer) -> int:
        return len([line for line in server.log() if line.get("what") == "reloaded"])

    with running_server(deployment) as first:
        other = Deployment(tmp_path / "second")
        other.directory.mkdir()
        toml = deployment.toml.read_text(encoding="utf-8")
        for name in ("state", "tls/"):
            toml = toml.replace(f'"{name}', f'"{tmp_path}/{name}')
        other.toml.write_text(toml, encoding="utf-8")
        with running_server(other) as second:
            (line,) = [line for line in second.log() if line["event"].startswith("no control socket")]
            assert "another server runs with this state_dir" in line["problem"]
            assert deployment.kipuka("reload").returncode == 0
            assert (reloads(first), reloads(second)) == (1, 0)
            second.process.send_signal(signal.SIGHUP)
            wait_until(lambda: reloads(second) == 1, what=lambda: "the reload by SIGHUP")
            assert second.stop() == 0
        assert socket_file(deployment).is_socket()
        assert deployment.kipuka("reload").returncode == 0
        assert reloads(first) == 2


def test_without_a_server_reload_says_so(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    done = deployment.kipuka("reload", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    nobody = f"no server runs with this state_dir: nothing listens on {socket_file(deployment)}"
    assert done.stderr == f"kipuka: error: {nobody}\n"
