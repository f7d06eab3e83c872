"""The supervisor with real processes: each test runs a program that supervises workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.edges.serving.supervised import PROGRAM, gone


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_workers_and_the_exit_code_is_0(program: Any, number: int) -> None:
    running = program("supervise(serving('one'), serving('two'))")
    running.line("event all_ready")
    running.signal(number)
    assert running.end() == 0
    assert {line for line in running.lines if line.startswith("drained")} == {"drained one", "drained two"}


def test_ctrl_c_for_the_whole_process_group_leaves_the_workers_to_the_supervisor(program: Any) -> None:
    running = program("os.setpgrp(); supervise(serving('one'), stop_seconds=20)")
    running.line("event all_ready")
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.end() == 0
    assert "drained one" in running.lines


def test_a_worker_that_fails_before_it_was_ready_stops_everything_with_exit_code_1(program: Any) -> None:
    running = program("""
        def fail(link):
            say("server.listen: is taken")
            return 3
        supervise(serving('good'), WorkerSpec('bad', (), fail))
    """)
    assert running.end() == 1
    died = next(line for line in running.lines if line.startswith("event worker_died"))
    assert died.startswith("event worker_died bad process")
    assert died.endswith("ended with exit code 3 before it was ready")
    assert "server.listen: is taken" in running.lines
    assert not any(line.startswith("event all_ready") for line in running.lines)


def test_a_crash_before_ready_leaves_a_traceback_and_exit_code_1(
    program: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program("supervise(WorkerSpec('bad', (), lambda link: 1 / 0))").end() == 1
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_port_does_not_listen_before_the_worker_is_ready(program: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    running = program(f"""
        bound = bind_socket("127.0.0.1:0")
        say("port", bound.getsockname()[1])
        supervise(serving('one', (bound,), before_ready=lambda: open({str(gate)!r}).read()))
    """)
    port = int(running.line("port").split()[1])
    # The gate opens once the worker reads it: the worker is running, and not ready.
    with gate.open("w"), socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))
    running.line("serving one")
    socket.create_connection(("127.0.0.1", port)).close()
    running.signal(signal.SIGTERM)
    assert running.end() == 0
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))


def test_a_killed_worker_is_replaced_and_its_port_never_refuses(program: Any) -> None:
    running = program("""
        bound = bind_socket("127.0.0.1:0")
        say("port", bound.getsockname()[1])
        supervise(serving('one', (bound,)), restart_seconds=0.01)
    """)
    port = int(running.line("port").split()[1])
    first = running.worker("one")
    running.line("event all_ready")
    os.kill(first, signal.SIGKILL)
    died = running.line("event worker_died")
    assert died == f"event worker_died one process {first} was ended by SIGKILL; starting again in 0.01s"
    socket.create_connection(("127.0.0.1", port)).close()
    assert running.worker("one") != first
    running.signal(signal.SIGTERM)
    assert running.end() == 0


def test_the_pause_before_a_replacement_doubles_up_to_its_limit_and_starts_again_when_healthy(program: Any) -> None:
    crash = """
        def crash(link):
            link.ready()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    running = program(
        f"{crash}\n        supervise(WorkerSpec('one', (), crash), restart_seconds=0.01, restart_max_seconds=0.03)"
    )
    pauses = [running.line("event worker_died").split()[-1] for _ in range(4)]
    assert pauses == ["0.01s", "0.02s", "0.03s", "0.03s"]
    running.signal(signal.SIGTERM)
    running.end()
    running = program(
        f"{crash}\n        supervise(WorkerSpec('one', (), crash), restart_seconds=0.01, healthy_seconds=0)"
    )
    assert [running.line("event worker_died").split()[-1] for _ in range(3)] == ["0.01s"] * 3
    running.signal(signal.SIGTERM)
    running.end()


def test_a_replacement_that_fails_at_once_is_tried_again_and_does_not_stop_the_others(
    program: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    running = program(f"""
        def check():
            if os.path.exists({str(broken)!r}):
                sys.exit(5)
        supervise(serving('one', before_ready=check), serving('two'), restart_seconds=0.01)
    """)
    first = running.worker("one")
    running.line("event all_ready")
    broken.touch()
    os.kill(first, signal.SIGKILL)
    for _ in range(3):
        running.line("event worker_died one")
    broken.unlink()
    assert running.worker("one") != first
    running.signal(signal.SIGTERM)
    assert running.end() == 0


def test_workers_stop_when_the_supervisor_is_killed(program: Any) -> None:
    running = program("supervise(serving('one'), serving('two'))")
    running.line("event all_ready")
    pids = [running.worker("one"), running.worker("two")]
    running.process.kill()
    for pid in pids:
        gone(pid)


def test_a_worker_that_ignores_its_supervisors_death_ends_after_the_grace_time(program: Any) -> None:
    running = program("supervise(serving('deaf', on_term=lambda: None), stop_seconds=0.1)")
    pid = running.worker("deaf")
    running.process.kill()
    gone(pid)


def test_a_worker_that_does_not_stop_in_time_is_killed_and_the_exit_code_says_so(program: Any) -> None:
    running = program("supervise(serving('deaf', on_term=lambda: None), stop_seconds=0.1)")
    pid = running.worker("deaf")
    running.line("event all_ready")
    running.signal(signal.SIGTERM)
    assert running.end() == 1
    assert f"event worker_killed deaf process {pid}" in running.lines


def test_a_second_signal_kills_at_once(program: Any) -> None:
    running = program("supervise(serving('deaf', on_term=lambda: say('asked')), stop_seconds=3600)")
    running.line("event all_ready")
    running.signal(signal.SIGTERM)
    running.line("asked")
    running.signal(signal.SIGTERM)
    assert running.end() == 1


def test_sighup_is_ignored_by_a_worker_itself(program: Any) -> None:
    running = program("""
        def hung_up(link):
            os.kill(os.getpid(), signal.SIGHUP)
            return serving('one').run(link)
        supervise(WorkerSpec('one', (), hung_up))
    """)
    pid = running.worker("one")
    running.line("event all_ready")
    os.kill(pid, signal.SIGHUP)
    running.signal(signal.SIGTERM)
    assert running.end() == 0
    assert not any(line.startswith("prepare") for line in running.lines)


def test_a_worker_holds_only_its_own_sockets(program: Any) -> None:
    running = program("""
        mine, theirs = bind_socket("127.0.0.1:0"), bind_socket("127.0.0.1:0")
        def look(link):
            link.ready()
            say("open", mine.fileno() >= 0, theirs.fileno() >= 0)
            return 0
        supervise(WorkerSpec('mine', (mine,), look), WorkerSpec('theirs', (theirs,), serving('x').run))
    """)
    assert running.line("open") == "open True False"
    running.signal(signal.SIGTERM)
    running.end()


def test_the_event_loop_is_uvloops_unless_it_is_not_wanted() -> None:
    code = """
        async def main():
            say(type(asyncio.get_running_loop()).__module__)
            return 7
        say(run_event_loop(main), run_event_loop(main, use_uvloop=False))
        sys.modules["uvloop"] = None  # as where it is not installed
        say(run_event_loop(main))
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["uvloop", "asyncio.unix_events", "7", "7", "asyncio.unix_events", "7"]


def test_the_signal_handlers_of_the_caller_come_back(program: Any) -> None:
    running = program("""
        signal.signal(signal.SIGHUP, report)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
        def stop(link):
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(60)
        Supervisor((WorkerSpec('one', (), stop),)).run()
        after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
        say("same", after == handlers, signal.set_wakeup_fd(-1))
    """)
    assert running.line("same") == "same True -1"
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(5)


def test_a_worker_for_which_there_is_no_process_is_started_later(program: Any) -> None:
    running = program("""
        fork, refusals = os.fork, [1, 1, 1]
        def scarce():
            if has_begun and refusals:
                refusals.pop()
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return fork()
        has_begun = []
        os.fork = scarce
        def report(event):
            say("event", event.kind, event.worker, event.detail)
            has_begun.extend([1] * (event.kind == "all_ready"))
        supervise(serving('one'), restart_seconds=0.01)
    """)
    first = running.worker("one")
    running.line("event all_ready")
    os.kill(first, signal.SIGKILL)
    running.line(f"event worker_died one process {first} was ended by SIGKILL")
    for _ in range(3):
        assert "cannot be started: Resource temporarily unavailable; starting again in" in running.line(
            "event worker_died one cannot"
        )
    assert running.worker("one") != first
    running.signal(signal.SIGTERM)
    assert running.end() == 0


def test_a_first_start_without_a_process_ends_with_exit_code_1(program: Any) -> None:
    running = program("""
        def none():
            raise OSError(12, "Cannot allocate memory")
        os.fork = none
        supervise(serving('one'), serving('two'))
    """)
    assert running.end() == 1
    assert "event worker_died one cannot be started: Cannot allocate memory" in running.lines
