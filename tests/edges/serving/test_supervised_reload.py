"""Reloads by the supervisor with real processes: each test runs a program that supervises workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from kipuka_core.edges.serving.control import command_server
from tests.edges.serving.supervised import Program


def stop(running: Program) -> None:
    running.signal(signal.SIGTERM)
    assert running.end() == 0


def orders(running: Program) -> list[str]:
    words = {"prepare", "commit", "abort"}
    return sorted(" ".join(line.split()[:2]) for line in running.lines if line.split()[0] in words)


def test_sighup_has_all_workers_prepare_and_then_commit_and_stops_none(program: Any) -> None:
    running = program("supervise(serving('one'), serving('two', records=True))")
    running.line("event all_ready")
    running.signal(signal.SIGHUP)
    assert running.line("event reloaded") == "event reloaded  all is fresh"
    assert running.line("record_reloaded") == "record_reloaded two all is fresh"
    stop(running)
    assert orders(running) == ["commit one", "commit two", "prepare one", "prepare two"]


def test_a_refusal_in_one_worker_aborts_all_and_one_records_it(program: Any) -> None:
    running = program("supervise(serving('one', prepare=refused('broken')), serving('two', records=True))")
    running.line("event all_ready")
    running.signal(signal.SIGHUP)
    assert running.line("event reload_failed") == "event reload_failed  broken"
    assert running.line("record_reload_failed") == "record_reload_failed two broken"
    stop(running)
    assert orders(running) == ["abort one", "abort two", "prepare one", "prepare two"]


def test_a_worker_that_does_not_answer_fails_the_reload(program: Any) -> None:
    running = program("supervise(serving('one'), serving('mute', prepare=lambda message: None), reload_seconds=0.1)")
    running.line("event all_ready")
    running.signal(signal.SIGHUP)
    assert running.line("event reload_failed").endswith("mute did not answer within 0.1 s")
    stop(running)


def test_a_worker_killed_during_a_reload_is_replaced_and_asked_again(program: Any) -> None:
    running = program("""
        def die_once(message):
            if not os.path.exists(sys.argv[0] + "/died"):
                os.mkdir(sys.argv[0] + "/died")
                os.kill(os.getpid(), signal.SIGKILL)
            return fresh(message)
        import tempfile
        sys.argv[0] = tempfile.mkdtemp()
        supervise(serving('one', prepare=die_once), serving('two'), restart_seconds=0.01)
    """)
    running.line("event all_ready")
    running.signal(signal.SIGHUP)
    running.line("event worker_died one")
    assert running.line("event reloaded") == "event reloaded  all is fresh"
    stop(running)
    assert orders(running) == ["commit one", "commit two", "prepare one", "prepare one", "prepare two"]


def test_a_worker_in_its_pause_before_a_restart_is_started_at_once_for_a_reload(program: Any) -> None:
    running = program("supervise(serving('one'), serving('two'), restart_seconds=3600, restart_max_seconds=3600)")
    first = running.worker("one")
    running.line("event all_ready")
    os.kill(first, signal.SIGKILL)
    running.line("event worker_died one")
    running.signal(signal.SIGHUP)
    assert running.worker("one") != first
    running.line("event reloaded")
    stop(running)


def test_a_reload_before_all_are_ready_waits_for_them(program: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    running = program(f"supervise(serving('one'), serving('late', before_ready=lambda: open({str(gate)!r}).read()))")
    running.line("serving one")
    running.signal(signal.SIGHUP)
    with gate.open("w"):
        pass
    running.line("event all_ready")
    running.line("event reloaded")
    stop(running)
    assert orders(running) == ["commit late", "commit one", "prepare late", "prepare one"]


def test_a_storm_of_signals_is_few_reloads_and_the_last_one_counts(program: Any) -> None:
    running = program("supervise(serving('one'), serving('two'))")
    running.line("event all_ready")
    for _ in range(200):
        running.signal(signal.SIGHUP)
    running.line("event reloaded")
    stop(running)
    assert 2 <= len(orders(running)) <= 4 * 200


def test_the_control_socket_answers_with_the_outcome(program: Any, tmp_path: Path) -> None:
    running = program(f"supervise(serving('one'), serving('two'), control={str(tmp_path)!r})")
    running.line("event all_ready")
    outcome = command_server(tmp_path, "reload", timeout_seconds=30)
    assert (outcome.ok, outcome.lines) == (True, ("all is fresh",))
    stop(running)
    assert not (tmp_path / "control.sock").exists()


def test_who_waits_for_a_reload_is_told_when_the_server_stops(program: Any, tmp_path: Path) -> None:
    running = program(f"""
        def stop_instead(message):
            os.kill(os.getppid(), signal.SIGTERM)
        supervise(serving('one', prepare=stop_instead), control={str(tmp_path)!r})
    """)
    running.line("event all_ready")
    outcome = command_server(tmp_path, "reload", timeout_seconds=30)
    assert (outcome.ok, outcome.lines) == (False, ("the server is being stopped",))
    assert running.end() == 0


def test_workers_hold_neither_the_control_socket_nor_its_lock_nor_lines_to_others(program: Any, tmp_path: Path) -> None:
    running = program(f"supervise(serving('one'), serving('two'), control={str(tmp_path)!r})")
    pids = [running.worker("one"), running.worker("two")]
    running.line("event all_ready")

    def open_files(pid: int) -> set[str]:
        return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}

    control = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines() if str(tmp_path) in line}
    assert control
    supervisors = open_files(running.process.pid)
    for pid in pids:
        held = open_files(pid)
        assert not any("control.lock" in name for name in held)
        assert control.isdisjoint(name.removeprefix("socket:[").removesuffix("]") for name in held)
    one, two = (open_files(pid) & {name for name in supervisors if name.startswith("socket:")} for pid in pids)
    assert one == two, "a worker holds the supervisor's end of another worker's line"
    stop(running)
