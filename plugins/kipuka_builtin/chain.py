"""A writer's end of an audit chain, and the key of all of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kipuka_core import ConfigurationError, Services
from kipuka_core.hooks.secret_files import read_secret_file, shown
from kipuka_core.model.audit_chain import KEY_BYTES, KEY_FILE, START, ChainKey, chained


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where a chain ends now: its writer, and the number and mac of its last line."""

    writer: str
    seq: int
    mac: str

    @classmethod
    def new(cls) -> ChainEnd:
        """A chain without a line, of a writer that nobody was before."""
        return cls(secrets.token_hex(8), 0, START)

    def extended(self, events_json: Sequence[bytes], *, at: int, key: ChainKey) -> tuple[bytes, ChainEnd]:
        """The lines of further events, of which the first begins at byte ``at`` of the file, and the new end."""
        lines: list[bytes] = []
        seq, mac = self.seq, self.mac
        for event_json in events_json:
            seq += 1
            line, mac = chained(event_json, writer=self.writer, seq=seq, at=at, prev=mac, key=key)
            lines.append(line)
            at += len(line)
        return b"".join(lines), ChainEnd(self.writer, seq, mac)


def open_key(services: Services) -> ChainKey:
    """The key under ``state_dir``, made when there is none.

    Raises ConfigurationError for a file that cannot be made or read, or holds no key.
    """
    path = services.state_dir / KEY_FILE
    if not path.exists():
        _make_key(path)
    return _read_key(path, services)


def check_key(services: Services) -> None:
    """Raise ConfigurationError for a key that is there and cannot be used; none is made."""
    path = services.state_dir / KEY_FILE
    if path.exists():
        _read_key(path, services)


def _read_key(path: Path, services: Services) -> ChainKey:
    content = read_secret_file(path, services)
    try:
        return ChainKey.parse(content)
    except ValueError:
        raise ConfigurationError(
            shown(path), "is not a key of the audit trail; restore it from a backup, or move it away for a new one"
        ) from None


def _make_key(path: Path) -> None:
    """Make the key once, whole or not at all, however many processes start."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, secrets.token_hex(KEY_BYTES).encode("ascii") + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(draft, path)  # unlike a rename it never replaces another process's key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigurationError(shown(path), f"the key of the audit trail cannot be made: {error.strerror}") from None
