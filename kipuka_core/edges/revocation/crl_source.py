"""One place that CRLs come from: read when it is needed, kept for a while, read once for all who wait.

A CRL whose signature was verified counts until it ends or a newer one takes its place: neither a source that is away
nor one that gives an older or false CRL makes it be forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from kipuka_core.domain.ca_ports import RunBlocking
from kipuka_core.edges.revocation.crl import MAX_CRL_BYTES, Crl, CrlUnusable, Scope, parse_crls
from kipuka_core.edges.revocation.memory import SingleFlight
from kipuka_core.edges.revocation.trouble import RETRY_SECONDS, SourceFailed, clock_from
from kipuka_core.errors import Unavailable

_RETRY = timedelta(seconds=RETRY_SECONDS)
_WITHOUT_END = timedelta(hours=24)
"""How long a CRL without nextUpdate counts after its source could have been read again."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a source gave at ``read_at``; ``until`` it is not read again."""

    crls: tuple[Crl, ...]
    digest: bytes
    read_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Proven:
    """A CRL that its issuer did sign; it counts before ``ends``."""

    crl: Crl
    ends: datetime


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
        self._held: Held | None = None
        self._failed: _Failed | None = None
        self._proven: dict[tuple[str, Scope], Proven] = {}
        self._epoch = 0
        self._flights = SingleFlight()

    async def current(self, now: datetime) -> Held:
        """What the source says, not older than ``cache_ttl``. Raises SourceFailed."""
        if self._held is not None and now < self._held.until:
            return self._held
        if self._failed is not None and now < self._failed.until:
            raise self._failed.error.with_traceback(None)  # it would grow with every request
        renewed = await self._flights.start(self._epoch, lambda: self._renewed(now))
        if isinstance(renewed, SourceFailed):
            raise renewed.with_traceback(None)
        return renewed

    def held(self) -> Held | None:
        """What was read last, however long ago; its CRLs have ends of their own."""
        return self._held

    def newer(self, crl: Crl, issuer_key_id: str) -> Crl | None:
        """The CRL of the same issuer and scope that has been verified and is newer than this one."""
        proven = self._proven.get((issuer_key_id, crl.scope))
        return proven.crl if proven is not None and proven.crl.is_newer_than(crl) else None

    def end_of(self, crl: Crl, read_at: datetime) -> datetime:
        """When the CRL ceases to count; one without nextUpdate ends too."""
        return crl.next_update or read_at + self._cache_ttl + _WITHOUT_END

    def prove(self, crl: Crl, issuer_key_id: str, ends: datetime) -> None:
        """Keep a verified CRL in the place of the one before."""
        self._proven[issuer_key_id, crl.scope] = Proven(crl, ends)

    def proven(self, issuer_key_id: str, now: datetime) -> list[Proven]:
        """The verified CRLs of an issuer that have not ended."""
        return [kept for (key, _), kept in self._proven.items() if key == issuer_key_id and now < kept.ends]

    async def load(self, now: datetime) -> Held:
        """Read it now, and leave everything as it is. Raises SourceFailed."""
        data = await self._read()
        digest = sha256(data).digest()
        last = self._held
        if last is not None and last.digest == digest:
            crls = last.crls
        else:
            crls = await self._parse(data)
        ends = [crl.next_update for crl in crls if crl.next_update is not None]
        # One that has ended already is not fetched again with every request.
        until = max(min(now + self._cache_ttl, *ends), now + _RETRY) if ends else now + self._cache_ttl
        return Held(crls, digest, now, until)

    def begin_anew(self, held: Held | None = None) -> None:
        """Use what :meth:`load` gave, or read again. What is being read counts no more.

        A verified CRL that a newly loaded file has no more is forgotten: its operator took it away.
        """
        self._epoch += 1
        self._failed = None
        if held is not None:
            present = {(crl.issuer, crl.scope) for crl in held.crls}
            self._proven = {
                key: kept for key, kept in self._proven.items() if (kept.crl.issuer, kept.crl.scope) in present
            }
            self._held = held
        elif self._held is not None:
            self._held = replace(self._held, until=self._held.read_at)

    async def close(self) -> None:
        """Stop reading."""
        await self._flights.close()

    async def _renewed(self, now: datetime) -> Held | SourceFailed:
        epoch, clock = self._epoch, clock_from(now)
        try:
            held = await self.load(now)
        except SourceFailed as error:
            if epoch == self._epoch and not error.is_ours:
                self._failed = _Failed(error, clock() + _RETRY)
            return error
        if epoch == self._epoch:
            self._held, self._failed = held, None
        return held

    async def _parse(self, data: bytes) -> tuple[Crl, ...]:
        try:
            crls: tuple[Crl, ...] = await self._run_blocking(parse_crls, data)
        except CrlUnusable as error:
            raise SourceFailed(self.name, str(error)) from error
        except Unavailable as error:
            raise SourceFailed(self.name, f"could not be read: {error}", is_ours=True) from error
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
            raise SourceFailed(str(path), f"could not be read: {error}", is_ours=True) from error
        return data

    return run
