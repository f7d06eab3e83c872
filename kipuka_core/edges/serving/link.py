"""The line between the supervisor and one worker: small messages over a pair of sockets, whole or not at all."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from enum import StrEnum

_MAX_MESSAGE_BYTES = 65536
_MAX_TEXT_CHARACTERS = 2000


class MessageKind(StrEnum):
    """What the two tell each other. The supervisor begins; a worker speaks unasked when it is ready or cannot be."""

    READY = "ready"
    """Worker: everything is open and it serves."""
    NOT_STARTED = "not_started"
    """Worker: it ends, because something cannot be opened; ``text`` says what."""
    PREPARE = "prepare"
    """Supervisor: read and check the files, and go on with the old ones."""
    PREPARED = "prepared"
    """Worker: they can be used. ``listener``, ``digest`` of what was read, ``text`` for the operator."""
    REFUSED = "refused"
    """Worker: they cannot be used; ``text`` says why."""
    COMMIT = "commit"
    """Supervisor: use what was prepared."""
    COMMITTED = "committed"
    """Worker: new connections get it from now on."""
    ABORT = "abort"
    """Supervisor: forget what was prepared."""
    RECORD_RELOADED = "record_reloaded"
    """Supervisor: write the audit event of a reload that succeeded; ``text`` is its reason."""
    RECORD_RELOAD_FAILED = "record_reload_failed"
    """Supervisor: write the audit event of a reload that failed; ``text`` is its reason."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``round`` tells the messages of one reload from those of the one before."""

    kind: MessageKind
    round: int = 0
    text: str = ""
    listener: str = ""
    digest: str = ""


class Link:
    """One end of the line."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        """For selectors and event loops."""
        return self._end.fileno()

    def send(self, message: Message) -> bool:
        """Send without ever waiting; False when the other end is gone or has left too much unread."""
        fields = asdict(message) | {"text": message.text[:_MAX_TEXT_CHARACTERS]}
        try:
            self._end.send(json.dumps(fields).encode())
        except OSError:
            return False
        return True

    def received(self) -> list[Message]:
        """What has arrived, in order; empty when nothing has."""
        messages = []
        try:
            while data := self._end.recv(_MAX_MESSAGE_BYTES):
                fields = json.loads(data)
                messages.append(Message(**fields | {"kind": MessageKind(fields["kind"])}))
        except OSError:
            pass
        return messages

    def close(self) -> None:
        """Let go of this end."""
        self._end.close()


def link_pair() -> tuple[Link, Link]:
    """Two ends. Datagrams: a message is never half sent, nor two read as one."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return Link(one), Link(other)
