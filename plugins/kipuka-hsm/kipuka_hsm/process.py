"""A signer process as its owner sees it: started, asked with a time limit, killed."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from kipuka_hsm.messages import (
    MAX_BYTES,
    MAX_DATA_BYTES,
    MAX_SIGN_ANSWER_BYTES,
    Failure,
    decode,
    decode_signature,
    encode,
)

_LOOKS_SECRET = re.compile(r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|PIN)(?:$|_)", re.IGNORECASE)
_END_SECONDS = 5.0
_SHORTEST_SECONDS = 0.001
_START_SECONDS = 30.0
"""For the interpreter: a busy machine is no reason to think that a token hangs."""


class TokenFailed(Exception):
    """The process answered that it cannot; ``kind`` says what follows from it, the text is one line."""

    def __init__(self, kind: Failure, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class ProcessGone(Exception):
    """The process crashed, or was killed because it took too long; the text says which.

    ``was_asked``: it had the request by then.
    """

    def __init__(self, text: str, *, was_asked: bool = True) -> None:
        super().__init__(text)
        self.was_asked = was_asked


class Process:
    """One signer process. Used by one thread at a time."""

    def __init__(
        self, hidden_variables: frozenset[str] = frozenset(), passed_variables: frozenset[str] = frozenset()
    ) -> None:
        """Start it, and return when it listens; it loads nothing yet.

        ``hidden_variables`` of the environment it does not get, nor what looks like a secret, unless that is one of
        ``passed_variables``. Raises ProcessGone when it cannot be started.
        """
        try:
            self._start(_environment(hidden_variables, passed_variables))
        except OSError as error:
            raise ProcessGone(f"no signer process can be started: {error.strerror or error}") from error
        self.ask({"do": "ready"}, _START_SECONDS)

    def _start(self, environment: Mapping[str, str]) -> None:
        with ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            with theirs:
                lifeline_read, self._lifeline = os.pipe()
                undo.callback(os.close, self._lifeline)
                try:
                    self._popen = _started(theirs.fileno(), lifeline_read, environment)
                finally:
                    os.close(lifeline_read)
            undo.pop_all()
        self._requests = ours
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self._limit_seconds = 0.0
        self._closing = threading.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def is_gone(self) -> bool:
        """Whether it has ended. To be asked while it has nothing to answer."""
        return self._lifeline < 0 or bool(self._poll.poll(0))

    def ask(self, request: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
        """Its answer. Raises TokenFailed; and ProcessGone, after which there is no process any more."""
        datagram = encode(request)
        if len(datagram) > MAX_BYTES:
            raise TokenFailed(Failure.REFUSED, f"{len(datagram)} bytes are more than a signer process takes")
        return _fields(self._exchange(datagram, timeout_seconds, MAX_BYTES))

    def sign(self, head: bytes, data: bytes, timeout_seconds: float) -> bytes:
        """A signature of the kind that ``head`` asks for. Raises TokenFailed, ProcessGone."""
        if len(data) > MAX_DATA_BYTES:
            raise TokenFailed(
                Failure.REFUSED, f"{len(data)} bytes are too many to be signed at once; {MAX_DATA_BYTES} are possible"
            )
        answer = self._exchange(head + data, timeout_seconds, MAX_SIGN_ANSWER_BYTES)
        signature = decode_signature(answer)
        if signature is None:
            _fields(answer)
            raise TokenFailed(Failure.LOST, "the signer process did not answer with a signature")
        return signature

    def _exchange(self, datagram: bytes, timeout_seconds: float, most_bytes: int) -> bytes:
        if timeout_seconds != self._limit_seconds:
            self._set_limit(timeout_seconds)
        try:
            self._requests.send(datagram)
        except OSError:
            raise ProcessGone(self._how_it_ended(), was_asked=False) from None
        try:
            answer = self._requests.recv(most_bytes)
        except BlockingIOError:
            self.kill()
            raise ProcessGone(f"the token gave no answer within {timeout_seconds:g} s") from None
        except OSError:
            answer = b""
        if not answer:
            raise ProcessGone(self._how_it_ended())
        return answer

    def _set_limit(self, seconds: float) -> None:
        """For the next answers. The kernel's own limit: looking before each one would be a system call more."""
        limited = max(seconds, _SHORTEST_SECONDS)
        whole = int(limited)
        limit = struct.pack("@ll", whole, int((limited - whole) * 1_000_000))  # struct timeval
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._limit_seconds = seconds

    def kill(self) -> None:
        """End it at once, whatever it is doing; also a second time."""
        with self._closing:
            if self._lifeline >= 0:
                self._popen.kill()
                self._popen.wait()
                self._requests.close()
                os.close(self._lifeline)
                self._lifeline = -1

    def _how_it_ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_END_SECONDS)
        self.kill()
        code = self._popen.returncode
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return f"the signer process {how}"


def _started(socket_fd: int, lifeline_fd: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # our own program, without a shell
        # -P: nothing is imported from the directory that a command happens to be run in.
        [sys.executable, "-P", "-m", "kipuka_hsm.signer_process", str(socket_fd), str(lifeline_fd)],
        pass_fds=(socket_fd, lifeline_fd),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # what a vendor's library prints may hold anything
        stderr=subprocess.DEVNULL,
    )


def _fields(answer: bytes) -> dict[str, Any]:
    """Raises TokenFailed."""
    fields = decode(answer)
    if "failure" in fields:
        raise TokenFailed(Failure(fields["failure"]), str(fields["text"]))
    return fields


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def _environment(hidden: frozenset[str], passed: frozenset[str]) -> dict[str, str]:
    """The server's, for vendors' libraries find their configuration there; less what looks like a secret."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in hidden and (name in passed or not _LOOKS_SECRET.search(name))
    }
