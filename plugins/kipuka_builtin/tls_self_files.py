"""The directory of TLS material ``self``: a key and its certificates in one file, replaced in one step.

``server-SERIAL.pem`` holds the private key and the chain, and never changes; the symbolic link ``current`` names the
one that serves. Whoever follows the link has a pair that belongs together, whatever is renewed meanwhile: the
generation before is kept for those who followed it a moment ago. A process that is killed leaves at most a file that
nobody names, which the next renewal takes away.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_builtin.private_files import load_private_key
from kipuka_core import ConfigurationError, Unavailable, sync_directory
from kipuka_core.hooks.secret_files import GROUP_AND_OTHERS, read_file, shown

_CURRENT = "current"
_LOCK = "lock"
_LOCK_POLL_SECONDS = 0.05
_FileId = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its intermediates, whose key is in the same file."""

    file: Path
    chain: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """The server certificate."""
        return self.chain[0]

    def is_in_time(self, now: datetime) -> bool:
        """Whether the server certificate is valid ``now`` (aware)."""
        return self.leaf.not_valid_before_utc <= now < self.leaf.not_valid_after_utc


class PairDirectory:
    """Reads at any time; writes only under :meth:`locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[_FileId, Pair] | None = None

    def current_file(self) -> Path | None:
        """The file that serves; None when there is none yet. Cheap."""
        try:
            return self.path / (self.path / _CURRENT).readlink()
        except OSError:
            return None

    def read(self) -> Pair | None:
        """The pair that serves; None when there is none yet. Blocks; cheap while the file is the same.

        Raises ConfigurationError for one that cannot be read, is damaged, or does not belong together.
        """
        file = self.current_file()
        if file is None:
            return None
        file_id = _file_id(file)
        if self._read is None or self._read[0] != file_id:
            self._read = file_id, _load(file)
        return self._read[1]

    @asynccontextmanager
    async def locked(self, wait_seconds: float) -> AsyncIterator[None]:
        """Hold the directory against every other process; a process that dies lets go.

        Raises Unavailable when another one holds it for longer than ``wait_seconds``, ConfigurationError when the
        directory cannot be made or written.
        """
        descriptor = self._open_lock()
        try:
            deadline = asyncio.get_running_loop().time() + wait_seconds
            while not _taken(descriptor):
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"{shown(self.path)}: another process has been renewing for {wait_seconds:g} s")
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def put(self, key: CertificateIssuerPrivateKeyTypes, chain: Sequence[x509.Certificate]) -> None:
        """Let another pair serve, once it is on disk. Blocks. Raises ConfigurationError."""
        before = self.current_file()
        file = self.path / f"server-{chain[0].serial_number:x}.pem"
        try:
            _write_durably(file, _pem(key, chain))
            link = self.path / f"{_CURRENT}.new"
            link.unlink(missing_ok=True)
            link.symlink_to(file.name)
            link.replace(self.path / _CURRENT)
            sync_directory(self.path)
            self._remove_all_but({_LOCK, _CURRENT, file.name, before.name if before else ""})
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def _remove_all_but(self, kept: set[str]) -> None:
        for each in self.path.iterdir():
            is_ours = each.name.startswith("server-") or each.name == f"{_CURRENT}.new"
            if is_ours and each.name not in kept and not each.is_dir():
                each.unlink()

    def _open_lock(self) -> int:
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            if self.path.is_symlink():  # whoever put it there would have files of his choice deleted
                raise ConfigurationError(shown(self.path), "is a symbolic link: put a directory there")
            if stat.S_IMODE(self.path.stat().st_mode) & GROUP_AND_OTHERS:
                self.path.chmod(0o700)
            return os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(self.path, error) from None


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _load(file: Path) -> Pair:
    pem = read_file(file)
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
        public_key = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(shown(file), "holds no certificate in PEM, or a damaged one") from None
    if load_private_key(file, None).key.public_key() != public_key:
        raise ConfigurationError(shown(file), "its key is not that of its certificate")
    return Pair(file, chain)


def _file_id(file: Path) -> _FileId:
    try:
        status = file.stat()
    except OSError:
        return file.name, 0, 0, 0  # reading it says why
    return file.name, status.st_ino, status.st_size, status.st_mtime_ns


def _pem(key: CertificateIssuerPrivateKeyTypes, chain: Sequence[x509.Certificate]) -> bytes:
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)


def _write_durably(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(shown(path), f"cannot be written: {os.strerror(error.errno or 0)}")
