"""The control socket against clients that are slow, silent, many or mad, and against the files of its predecessors."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.edges.serving.control import SOCKET_NAME, ControlSocket, ControlUnavailable, command_server
from kipuka_core.edges.serving.reload import Outcome, Tell

FINE = Outcome(True, ("all is fresh", "ä line"))


class Server:
    """A control socket in a loop like the supervisor's."""

    def __init__(self, directory: Path, command: Callable[[Tell], object], patience_seconds: float) -> None:
        self.control = ControlSocket(directory, patience_seconds=patience_seconds)
        self._ends, self._end = socket.socketpair()
        self._command = command
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            ending = False

            def end() -> None:
                nonlocal ending
                ending = True

            selector.register(self._ends, selectors.EVENT_READ, end)
            self.control.attach(selector, {"reload": self._command})
            while not ending:
                for key, _ in selector.select(0.01):
                    key.data()
                self.control.expire()
            self.control.close()

    def stop(self) -> None:
        """End it, also for the second time."""
        if not self._thread.is_alive():
            return
        self._end.send(b"!")
        self._thread.join()
        self._end.close()
        self._ends.close()


class Waiting:
    """A command whose outcome comes later."""

    def __init__(self) -> None:
        self.tells: list[Tell] = []
        self._asked = threading.Semaphore(0)

    def __call__(self, tell: Tell) -> None:
        self.tells.append(tell)
        self._asked.release()

    def await_another(self) -> None:
        assert self._asked.acquire(timeout=60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    running: list[Server] = []

    def begin(
        directory: Path = tmp_path, command: Callable[[Tell], object] = lambda tell: tell(FINE), patience: float = 60
    ) -> Server:
        running.append(Server(directory, command, patience))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


def connect(directory: Path) -> socket.socket:
    """A connection that waits: a client with a timeout is refused at once while the queue is full."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(directory / SOCKET_NAME))
    client.settimeout(60)
    return client


def say(directory: Path, *parts: bytes) -> bytes:
    """What the server answers to these bytes; empty when it just ends the connection."""
    with connect(directory) as client:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
        try:
            return client.makefile("rb").read()
        except ConnectionError:
            return b""


def works(directory: Path) -> bool:
    return command_server(directory, "reload", timeout_seconds=60) == FINE


def test_a_command_gets_its_outcome_as_one_line_of_json(start: Any, tmp_path: Path) -> None:
    start()
    answer = say(tmp_path, b'{"do": ', b'"reload"}\n')
    assert answer.count(b"\n") == 1
    assert json.loads(answer) == {"ok": True, "lines": list(FINE.lines)}
    assert works(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b'{"do": "stop"}\n',
        b"reload\n",
        b"\n",
        b"[]\n",
        b"17\n",
        b'{"do": ["reload"]}\n',
        b'{"do": {"reload": 1}}\n',
        b"\xff\x00\xfe\n",
        b"[" * 4000 + b"\n",
        b'{"do": "reload", "do": "other"}\n',
    ],
)
def test_what_is_no_command_gets_an_error_and_does_nothing(start: Any, tmp_path: Path, line: bytes) -> None:
    done: list[Tell] = []
    start(command=done.append)
    answer = json.loads(say(tmp_path, line))
    assert not answer["ok"]
    assert answer["lines"] == ['this is not a command; there is: {"do": "reload"}']
    assert done == []


def test_a_line_of_a_megabyte_is_not_read_to_its_end(start: Any, tmp_path: Path) -> None:
    start()
    assert say(tmp_path, *[b"x" * 1024] * 1024) == b""
    assert works(tmp_path)


def test_a_client_that_hangs_up_before_during_and_after_its_command_harms_nobody(start: Any, tmp_path: Path) -> None:
    waiting = Waiting()
    start(command=waiting)
    connect(tmp_path).close()
    with connect(tmp_path) as client:
        client.sendall(b'{"do": "rel')
    for _ in range(40):  # more than there is room for: those that have gone make room
        with connect(tmp_path) as client:
            client.sendall(b'{"do": "reload"}\n')
            waiting.await_another()
    for tell in waiting.tells:
        tell(FINE)
    answer = json.loads(say(tmp_path, b"no command\n"))
    assert not answer["ok"]


def test_a_hundred_silent_clients_keep_nobody_out(start: Any, tmp_path: Path) -> None:
    start()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(tmp_path)) for _ in range(100)]
        assert works(tmp_path)
        assert silent[0].recv(1) == b"", "the oldest had to go"


def test_a_silent_and_a_slow_client_are_given_up(start: Any, tmp_path: Path) -> None:
    start(patience=0.05)
    with connect(tmp_path) as silent, connect(tmp_path) as slow:
        slow.sendall(b"{")
        assert silent.recv(1) == b""
        assert slow.recv(1) == b""


def test_a_client_that_waits_for_its_outcome_is_not_given_up(start: Any, tmp_path: Path) -> None:
    waiting = Waiting()
    start(command=waiting, patience=0.05)
    with connect(tmp_path) as patient, connect(tmp_path) as silent:
        patient.sendall(b'{"do": "reload"}\n')
        waiting.await_another()
        assert silent.recv(1) == b"", "the time of both is over"
        waiting.tells[0](FINE)
        assert json.loads(patient.makefile("rb").read())["ok"]


def test_clients_that_all_wait_leave_no_room_and_the_next_one_is_told(start: Any, tmp_path: Path) -> None:
    waiting = Waiting()
    start(command=waiting)
    with contextlib.ExitStack() as stack:
        patient = [stack.enter_context(connect(tmp_path)) for _ in range(32)]
        for client in patient:
            client.sendall(b'{"do": "reload"}\n')
            waiting.await_another()
        with pytest.raises(ControlUnavailable, match="is busy"):
            command_server(tmp_path, "reload", timeout_seconds=60)


def test_only_the_owner_can_reach_it(start: Any, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        start()
    finally:
        os.umask(before)
    for name in (SOCKET_NAME, "control.lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_live_socket_is_not_stolen_and_a_closed_one_leaves_no_file(start: Any, tmp_path: Path) -> None:
    first = start()
    with pytest.raises(ControlUnavailable, match="another server runs with this state_dir"):
        ControlSocket(tmp_path)
    assert works(tmp_path)
    first.stop()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_a_stale_socket_file_is_replaced(start: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / SOCKET_NAME))
    with pytest.raises(ControlUnavailable, match="no server runs"):
        command_server(tmp_path, "reload", timeout_seconds=60)
    start()
    assert works(tmp_path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).write_text("precious")
    with pytest.raises(ControlUnavailable, match="in the way and no socket"):
        ControlSocket(tmp_path)
    assert (tmp_path / SOCKET_NAME).read_text() == "precious"


@pytest.mark.parametrize("length", [100, 107, 108, 109, 300])
def test_a_path_of_any_length_works(start: Any, tmp_path: Path, length: int) -> None:
    directory = tmp_path
    room = length - len(f"{directory}/{SOCKET_NAME}") - 1
    while room > 0:
        directory /= "d" * min(room, 200)
        room = length - len(f"{directory}/{SOCKET_NAME}") - 1
    directory.mkdir(parents=True, exist_ok=True)
    start(directory)
    assert works(directory)
    (mode,) = (stat.S_IMODE(entry.lstat().st_mode) for entry in directory.iterdir() if entry.is_socket())
    assert mode == 0o600


def test_a_directory_that_is_missing_or_not_writable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailable, match=r"control\.lock cannot be locked: No such file"):
        ControlSocket(tmp_path / "missing")
    with pytest.raises(ControlUnavailable, match="no server runs"):
        command_server(tmp_path / "missing", "reload", timeout_seconds=60)


def test_an_answer_that_never_comes_is_not_awaited_for_ever(start: Any, tmp_path: Path) -> None:
    start(command=lambda tell: None)
    with pytest.raises(ControlUnavailable, match=r"did not answer within 0\.1 s"):
        command_server(tmp_path, "reload", timeout_seconds=0.1)
