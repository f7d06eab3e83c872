"""TLS of one process as it is served now, and how that is exchanged: read and check first, then change over at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from cryptography import x509
from OpenSSL import crypto

from kipuka_core.assemble import Assembly
from kipuka_core.edges.tls.context import build_context
from kipuka_core.edges.tls.files import load_certificates
from kipuka_core.edges.tls.kept import KeptPeers
from kipuka_core.edges.tls.peer import PeerReader
from kipuka_core.errors import ConfigurationError
from kipuka_core.listeners import ClientTrust, ListenerMaterial


class ReadMaterial(Protocol):
    """Reads what a listener serves, as :func:`~kipuka_core.listeners.est_material` does."""

    def __call__(self, assembly: Assembly, trust: ClientTrust | None = None) -> Awaitable[ListenerMaterial]:
        """All of it, or with ``trust`` only certificate and key. Raises ConfigurationError."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything of a reload, checked and ready to be used."""

    material: ListenerMaterial
    context: ssl.SSLContext
    crls: tuple[object, ...] = ()
    """What the revocation checker has prepared, if it is asked at all."""


class LiveTls:
    """The SSL context of new connections, the anchors behind it, and what the health page says of them."""

    def __init__(
        self, assembly: Assembly, read: ReadMaterial, first: Prepared, *, clock: Callable[[], datetime]
    ) -> None:
        self._assembly = assembly
        self._read = read
        self._clock = clock
        self._serving = first
        self.troubles: dict[str, str] = {}
        """What :mod:`kipuka_core.upkeep` cannot do at the moment, by the part that it is about."""
        tls = first.material.tls
        peers = PeerReader(tls.anchors, required=tls.client_auth == "required", clock=clock)
        self._peers = peers
        self.kept = KeptPeers(peers, lambda: self.context)
        self._use_anchors(first)

    @classmethod
    async def open(cls, assembly: Assembly, read: ReadMaterial, *, clock: Callable[[], datetime]) -> LiveTls:
        """Read the files for the first time. Raises ConfigurationError."""
        return cls(assembly, read, await _checked(await read(assembly), clock()), clock=clock)

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        return self._serving.context

    @property
    def material(self) -> ListenerMaterial:
        """What is served."""
        return self._serving.material

    def anchors(self) -> Sequence[x509.Certificate]:
        """The anchors that this listener's client certificates chain to, as of the last reload."""
        return self.material.trust.listener

    def current_warnings(self) -> list[str]:
        """What the operator should change, as things are now: the configuration, the certificates, what fails.

        Reads no file; cheap enough for every request of a health page.
        """
        troubles = (f"{part}: {problem}" for part, problem in self.troubles.items())
        return list(dict.fromkeys((*self._assembly.warnings, *self.certificate_warnings(), *troubles)))

    def certificate_warnings(self) -> list[str]:
        """Of these, what depends on the certificates that are served and on the day."""
        return self.material.warnings(self._clock())

    async def prepare(self) -> Prepared:
        """Read certificate, key, anchors and CRLs anew; nothing changes yet. Raises ConfigurationError."""
        prepared = await _checked(await self._read(self._assembly), self._clock())
        revocation = self._assembly.revocation
        if revocation is None:
            return prepared
        return replace(prepared, crls=(await revocation.prepare_reload(),))

    async def prepare_certificate(self) -> Prepared:
        """Read certificate and key anew; the anchors stay. Raises ConfigurationError."""
        return await _checked(await self._read(self._assembly, self.material.trust), self._clock())

    def commit(self, prepared: Prepared) -> None:
        """Serve new connections with this, and let kept ones rest on nothing older. Within one turn of the loop."""
        if self._assembly.revocation is not None:
            for crls in prepared.crls:
                self._assembly.revocation.commit_reload(crls)
        self._use_anchors(prepared)
        self._serving = prepared

    def _use_anchors(self, prepared: Prepared) -> None:
        self._peers.trust(prepared.material.tls.anchors)
        self._assembly.client_anchors[:] = prepared.material.trust.plugins


async def _checked(material: ListenerMaterial, now: datetime) -> Prepared:
    """Whether all of it can be served. Raises ConfigurationError."""
    material.chain.inspect(now)
    # In a thread: to open an encrypted key takes as long as its writer chose.
    context = await asyncio.to_thread(build_context, material.tls)
    _check_anchors(material.tls.anchors)
    if load_certificates(material.tls.certificate_file) != material.chain.certificates:
        raise ConfigurationError(material.tls.certificate_file, "was changed while it was read; reload again")
    return Prepared(material, context)


def _check_anchors(anchors: Sequence[x509.Certificate]) -> None:
    """Another OpenSSL than that of the handshakes verifies resumed and kept connections."""
    try:
        PeerReader(anchors)
    except (crypto.Error, ValueError) as error:
        raise ConfigurationError("trust_anchors", f"a certificate cannot be used: {type(error).__name__}") from error
