"""The chain of an upstream EST server: fetched, refreshed, and kept for when the upstream is away."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_builtin.external_ca import chain_in
from kipuka_core import CaChain, ConfigurationError, Services, Unavailable, issued_by

_REFRESH_SECONDS = 3600
_RETRY_SECONDS = 60
_LOG = logging.getLogger("kipuka_builtin.est")
Fetch = Callable[[], Awaitable[list[x509.Certificate]]]


class UpstreamChain:
    """What ``/cacerts`` said last, in order. :meth:`refreshing` fetches it again every hour and when it must."""

    def __init__(self, fetch: Fetch, kept: Path, services: Services, *, patience_seconds: float) -> None:
        """``patience_seconds``: how long a request that has its certificate may wait for that of a new CA."""
        self._fetch = fetch
        self._kept = kept
        self._services = services
        self._patience_seconds = patience_seconds
        self._certificates: Sequence[x509.Certificate] = ()
        self._issued: x509.Certificate | None = None
        self._chain: CaChain | None = None

    @property
    def now(self) -> CaChain:
        """The chain as it is known; there is one once :meth:`load` has returned."""
        assert self._chain is not None  # noqa: S101
        return self._chain

    async def load(self) -> None:
        """Fetch it, or read what was kept of it. Raises ConfigurationError when there is neither."""
        try:
            await self._refresh()
        except (Unavailable, ValueError) as error:
            if not self._read_kept():
                raise ConfigurationError("", f"no CA certificates from the upstream EST server: {error}") from None
            self._services.warn(f"{error}; the CA certificates of its last answer serve until it is back")

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Fetch it again from time to time while this is open."""
        task = asyncio.create_task(self._keep_fresh())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def saw(self, certificate: x509.Certificate) -> None:
        """Learn from a certificate of the upstream's which of its CAs issues now, if need be by asking for them."""
        if issued_by(self.now.issuing, certificate):
            return
        self._issued = certificate
        if any(issued_by(each, certificate) for each in self.now.previous):
            self._order(self._certificates)
            return
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._refresh()
        except (Unavailable, ValueError, OSError) as error:  # a time-out is an OSError
            problem = str(error) or "no answer in time"
            _LOG.warning("a certificate of the upstream is by a CA that it has not told of: %s", problem)

    async def _keep_fresh(self) -> None:
        pause_seconds = _REFRESH_SECONDS
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                await self._refresh()
                pause_seconds = _REFRESH_SECONDS
            except (Unavailable, ValueError, OSError) as error:
                _LOG.warning("the upstream's CA certificates stay as they were: %s", error)
                pause_seconds = _RETRY_SECONDS

    async def _refresh(self) -> None:
        certificates = await self._fetch()
        self._order(certificates)
        if not self._services.dry_run:
            self._keep(certificates)

    def _order(self, certificates: Sequence[x509.Certificate]) -> None:
        self._chain = chain_in(certificates, self._services.clock(), issued=self._issued)
        self._certificates = certificates

    def _keep(self, certificates: Sequence[x509.Certificate]) -> None:
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
        if self._kept.exists() and self._kept.read_bytes() == pem:
            return
        self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._kept.with_suffix(f".{os.getpid()}")
        new.write_bytes(pem)
        new.replace(self._kept)

    def _read_kept(self) -> bool:
        try:
            self._order(x509.load_pem_x509_certificates(self._kept.read_bytes()))
        except (OSError, ValueError):
            return False
        return True


def kept_file(state_dir: Path, url: str) -> Path:
    """Where the CA certificates of an upstream are kept: another URL is another upstream."""
    return state_dir / f"est-cacerts-{hashlib.sha256(url.encode()).hexdigest()[:16]}.pem"
