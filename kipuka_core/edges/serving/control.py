"""The control socket: how ``kipuka reload`` reaches the supervisor of a running server.

One JSON line in (``{"do": "reload"}``), one JSON line out (``{"ok": true, "lines": ["…"]}``), then the end. The socket
lies in the state directory and serves its owner and root only. The supervisor has one thread, so nothing here waits.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kipuka_core.edges.serving.reload import Outcome, Tell

SOCKET_NAME = "control.sock"
_LOCK_NAME = "control.lock"
_MAX_PATH_BYTES = 107 if hasattr(socket, "SO_PEERCRED") else 103  # sun_path, less its end
_MAX_LINE_BYTES = 4096
_MAX_CLIENTS = 32
_PATIENCE_SECONDS = 5.0

Command = Callable[[Tell], object]
"""Begins what a client asked for, and sees to it that the outcome is told."""


class ControlUnavailable(Exception):
    """There can be no control socket; the text says why."""


class ControlSocket:
    """Listens in ``directory``, and belongs to this process until :meth:`close`.

    The socket file of a server that was killed is replaced, that of one that runs is not: a lock decides, which the
    operating system takes back however its holder ends. Raises ControlUnavailable.
    """

    def __init__(self, directory: Path, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._path = directory / SOCKET_NAME
        self._patience_seconds = patience_seconds
        self._clients: dict[_Client, None] = {}
        self._commands: Mapping[str, Command] = {}
        self._selector: selectors.BaseSelector | None = None
        try:
            self._lock = _lock(directory / _LOCK_NAME)
        except OSError as error:
            raise ControlUnavailable(f"{directory / _LOCK_NAME} cannot be locked: {error.strerror}") from error
        try:
            self._socket = _listen(self._path)
        except OSError as error:
            os.close(self._lock)
            raise ControlUnavailable(f"{self._path}: {error.strerror or error}") from error

    def attach(self, selector: selectors.BaseSelector, commands: Mapping[str, Command]) -> None:
        """Serve by this selector, whose keys' ``data`` is called when they are ready."""
        self._selector, self._commands = selector, commands
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    @property
    def deadline(self) -> float | None:
        """When :meth:`expire` is due; None: never."""
        return min((client.deadline for client in self._clients if client.deadline is not None), default=None)

    def expire(self) -> None:
        """Give up on clients that are too slow."""
        now = time.monotonic()
        for client in [each for each in self._clients if each.deadline is not None and each.deadline <= now]:
            self._forget(client)

    def close(self) -> None:
        """Take the socket away. Clients have been answered by now or are not any more."""
        for client in list(self._clients):
            client.write()
            self._forget(client)
        if self._selector is not None:
            self._selector.unregister(self._socket)
        with suppress(OSError):
            self._path.unlink()
        self.let_go()

    def let_go(self) -> None:
        """In a worker: it is the supervisor's, whose end must be seen by everybody else."""
        for client in self._clients:
            client.socket.close()
        self._socket.close()
        os.close(self._lock)

    def _accept(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except OSError:  # it has gone away, or there are no more file descriptors
            return
        if not _may_command(accepted) or not self._has_room():
            accepted.close()
            return
        accepted.setblocking(False)
        client = _Client(accepted, time.monotonic() + self._patience_seconds)
        self._clients[client] = None
        self._register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _has_room(self) -> bool:
        """Of those that have said nothing, the oldest makes room."""
        if len(self._clients) < _MAX_CLIENTS:
            return True
        silent = next((each for each in self._clients if not each.is_waiting), None)
        if silent is None:
            return False
        self._forget(silent)
        return True

    def _read(self, client: _Client) -> None:
        if client not in self._clients:  # it made room for another one in this very turn
            return
        line = client.read()
        if line is None:
            self._forget(client)
        elif client.is_waiting or not line:
            return
        else:
            self._obey(client, line)

    def _obey(self, client: _Client, line: bytes) -> None:
        command = self._commands.get(_wanted(line))
        client.is_waiting = True
        client.deadline = None  # the command sets its own limits
        if command is None:
            known = ", ".join(f'{{"do": "{name}"}}' for name in self._commands)
            self._answer(client, Outcome(False, (f"this is not a command; there is: {known}",)))
        else:
            command(lambda outcome: self._answer(client, outcome))

    def _answer(self, client: _Client, outcome: Outcome) -> None:
        if client not in self._clients:
            return
        client.outgoing = json.dumps({"ok": outcome.ok, "lines": outcome.lines}).encode() + b"\n"
        client.deadline = time.monotonic() + self._patience_seconds
        self._unregister(client)
        self._register(client, selectors.EVENT_WRITE, lambda: self._write(client))

    def _write(self, client: _Client) -> None:
        if client in self._clients and client.write():
            self._forget(client)

    def _forget(self, client: _Client) -> None:
        self._unregister(client)
        del self._clients[client]
        client.socket.close()

    def _register(self, client: _Client, events: int, call: Callable[[], None]) -> None:
        if self._selector is not None:
            self._selector.register(client.socket, events, call)

    def _unregister(self, client: _Client) -> None:
        if self._selector is not None:
            self._selector.unregister(client.socket)


class _Client:
    """A connection: a line comes in, then it waits, then a line goes out."""

    def __init__(self, accepted: socket.socket, deadline: float) -> None:
        self.socket = accepted
        self.deadline: float | None = deadline
        self.is_waiting = False
        self.outgoing = b""
        self._incoming = b""

    def read(self) -> bytes | None:
        """The line, once it is whole; empty before that. None: it has gone, or sends what no client would."""
        try:
            data = self.socket.recv(_MAX_LINE_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        self._incoming += data
        if not data or len(self._incoming) > _MAX_LINE_BYTES:
            return None
        return self._incoming if b"\n" in self._incoming else b""

    def write(self) -> bool:
        """Write what can be written; True when nothing is left to do."""
        try:
            self.outgoing = self.outgoing[self.socket.send(self.outgoing) :]
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not self.outgoing


def command_server(directory: Path, command: str, *, timeout_seconds: float) -> Outcome:
    """Have the server whose state directory this is do something, and wait for the outcome.

    Raises ControlUnavailable when no server listens there, or none that answers.
    """
    path = directory / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX) as connection, _short_name(path) as name:
            connection.settimeout(timeout_seconds)
            _connect(connection, name, time.monotonic() + timeout_seconds)
            connection.sendall(json.dumps({"do": command}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                answer = answers.readline()
    except (ConnectionResetError, BrokenPipeError):
        answer = b""
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ControlUnavailable(f"no server runs with this state_dir: nothing listens on {path}") from error
    except PermissionError as error:
        raise ControlUnavailable(f"{path} is for the server's user and root only") from error
    except TimeoutError as error:
        raise ControlUnavailable(f"the server at {path} did not answer within {timeout_seconds:g} s") from error
    except OSError as error:
        raise ControlUnavailable(f"{path}: {error.strerror or error}") from error
    if not answer:
        raise ControlUnavailable("the server ended the connection without an answer: it was stopped, or is busy")
    fields = json.loads(answer)
    return Outcome(fields["ok"], tuple(fields["lines"]))


def server_process(directory: Path) -> tuple[int, int] | None:
    """Process and user id of the supervisor whose state directory this is; None when none runs.

    Raises ControlUnavailable where that cannot be seen.
    """
    path = directory / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX) as connection, _short_name(path) as name:
            connection.settimeout(_PATIENCE_SECONDS)
            _connect(connection, name, time.monotonic() + _PATIENCE_SECONDS)
            pid, uid, _ = _peer(connection)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    except OSError as error:
        raise ControlUnavailable(f"{path}: {error.strerror or error}") from error
    return pid, uid


def listening_since(directory: Path) -> float | None:
    """When the server whose state directory this is began to listen for commands, in seconds since the epoch."""
    try:
        return (directory / SOCKET_NAME).stat().st_mtime
    except OSError:
        return None


def _connect(connection: socket.socket, name: str, deadline: float) -> None:
    """A UNIX socket whose queue is full refuses at once where others would let a client wait."""
    while True:
        try:
            connection.connect(name)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError from None
            time.sleep(0.05)
        else:
            return


def _wanted(line: bytes) -> str:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    wanted = fields.get("do") if isinstance(fields, dict) else None
    return wanted if isinstance(wanted, str) else ""


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ControlUnavailable(f"{path} is locked: another server runs with this state_dir") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _listen(path: Path) -> socket.socket:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(0, "is in the way and no socket: remove it")
        path.unlink()  # of a server that was killed: the lock is ours
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _short_name(path) as name:
            listening.bind(name)
        path.chmod(0o600)  # before listen(), so nobody was there before
        listening.setblocking(False)
        listening.listen(_MAX_CLIENTS)
    except OSError:
        listening.close()
        raise
    return listening


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """A name for a socket file that fits into a socket address, whose room for it is small."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield str(path)
        return
    if not hasattr(os, "O_PATH") or not Path("/proc/self/fd").is_dir():
        raise OSError(0, f"is longer than the {_MAX_PATH_BYTES} bytes of a socket's name: shorten server.state_dir")
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _may_command(accepted: socket.socket) -> bool:
    """Belt and braces: the file's mode keeps others out already."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, uid, _ = _peer(accepted)
    return uid in {0, os.geteuid()}


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    """Process, user and group id of the other end."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid, gid
