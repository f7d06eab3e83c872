"""One place that CRLs come from: read when it is needed, kept for a while, read once for all who wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from kipuka_core.domain.ports import RunBlocking
from kipuka_core.edges.revocation.crl import MAX_CRL_BYTES, Crl, CrlUnusable, parse_crls
from kipuka_core.edges.revocation.memory import SingleFlight
from kipuka_core.edges.revocation.trouble import RETRY_SECONDS, SourceFailed
from kipuka_core.errors import Unavailable

_RETRY = timedelta(seconds=RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class Held:
    """What a source gave; ``until`` it is not read again."""

    crls: tuple[Crl, ...]
    digest: bytes
    until: datetime


@dataclass(frozen=True, slots=True)
class _Failed:
    error: SourceFailed
    until: datetime


class CrlSource:
    """A file or a URL. A failure is remembered for :data:`~.trouble.RETRY_SECONDS`."""

    def __init__(
        self, name: str, read: Callable[[], Awaitable[bytes]], run_blocking: RunBlocking, *, cache_ttl: timedelta
    ) -> None:
        self.name = name
        self._read = read
        self._run_blocking = run_blocking
        self._cache_ttl = cache_ttl
        self._last: Held | _Failed | None = None
        self._epoch = 0
        self._flights = SingleFlight()

    async def current(self, now: datetime) -> Held:
        """What the source says, not older than ``cache_ttl``. Raises SourceFailed."""
        last = self._last
        if last is None or last.until <= now:
            last = await self._flights.start(self._epoch, lambda: self._renewed(now))
        if isinstance(last, _Failed):
            raise last.error
        return last

    async def load(self, now: datetime) -> Held:
        """Read it now, and leave everything as it is. Raises SourceFailed."""
        data = await self._read()
        digest = sha256(data).digest()
        last = self._last
        if isinstance(last, Held) and last.digest == digest:
            crls = last.crls
        else:
            crls = await self._parse(data)
        ends = [crl.next_update for crl in crls if crl.next_update is not None]
        # One that has ended already is not fetched again with every request.
        until = max(min(now + self._cache_ttl, *ends), now + _RETRY) if ends else now + self._cache_ttl
        return Held(crls, digest, until)

    def begin_anew(self, held: Held | None = None) -> None:
        """Forget what was read, and use what :meth:`load` gave. What is being read counts no more."""
        self._epoch += 1
        self._last = held

    async def close(self) -> None:
        """Stop reading."""
        await self._flights.close()

    async def _renewed(self, now: datetime) -> Held | _Failed:
        epoch = self._epoch
        renewed: Held | _Failed
        try:
            renewed = await self.load(now)
        except SourceFailed as error:
            renewed = _Failed(error, now + _RETRY)
        if epoch == self._epoch:
            self._last = renewed
        return renewed

    async def _parse(self, data: bytes) -> tuple[Crl, ...]:
        try:
            crls: tuple[Crl, ...] = await self._run_blocking(parse_crls, data)
        except (CrlUnusable, Unavailable) as error:
            raise SourceFailed(self.name, str(error)) from error
        return crls


def file_reader(path: Path, run_blocking: RunBlocking) -> Callable[[], Awaitable[bytes]]:
    """Reads a CRL file; raises SourceFailed."""

    def read() -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_CRL_BYTES + 1)
        except FileNotFoundError:
            raise SourceFailed(str(path), "does not exist") from None
        except OSError as error:
            raise SourceFailed(str(path), f"cannot be read: {error.strerror}") from None
        if len(data) > MAX_CRL_BYTES:
            raise SourceFailed(str(path), f"has more than {MAX_CRL_BYTES} bytes")
        return data

    async def run() -> bytes:
        try:
            data: bytes = await run_blocking(read)
        except Unavailable as error:
            raise SourceFailed(str(path), str(error)) from error
        return data

    return run
