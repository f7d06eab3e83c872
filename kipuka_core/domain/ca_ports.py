"""The port of CA backends, and the keys that sign."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core.domain.port import Port
from kipuka_core.domain.status_ports import StatusTimes
from kipuka_core.errors import Unavailable
from kipuka_core.model.asked import Asked
from kipuka_core.model.certificate import Approved, CaChain, CaProfile, Issued
from kipuka_core.model.verdict import Wait

ResultT = TypeVar("ResultT")


class CaBackend(Port):
    """Who signs. One instance per ``[[ca]]``."""

    external: ClassVar[bool] = False
    """True: issuing leaves this process, so a durable intent is recorded before :meth:`issue` is called."""
    finds: bool = False
    """True: :meth:`poll` finds out what became of a request without a reference too. False: a person has to."""
    revokes: bool = False
    """True: :meth:`revoke` tells the CA."""

    longest_validity: timedelta | None = None
    """What the CA shortens every certificate to, so that the template that is judged says so already."""

    @property
    def may_set(self) -> CaProfile:
        """What this CA decides by itself. Everything else has to come back as approved (domain.postcheck)."""
        return CaProfile()

    @property
    def hash_name(self) -> str | None:
        """The hash that certificates are signed with (``sha256``); None: unknown, or the key's algorithm has none."""
        return None

    @property
    def hsm_backed(self) -> bool:
        """Whether the CA's key lives in a token."""
        return False

    @property
    def pointers(self) -> Sequence[x509.ExtensionType] | None:
        """CRL distribution points and authority information access of everything that it issues.

        A certificate with others, or without, is refused afterwards. None: as the CA likes, which is the default.
        """
        return None

    @property
    def status_authorities(self) -> Sequence[StatusAuthority]:
        """The keys by which kipuka may tell the world what was revoked; the one that issues now is the first.

        None for a CA that tells it itself, as external ones do; that is the default.
        """
        return ()

    @abstractmethod
    async def chain(self) -> CaChain:
        """The CA's certificates, as ``/cacerts`` hands them out (RFC 7030 4.1.3). May change over time."""

    @abstractmethod
    async def issue(self, approved: Approved) -> Issued | Wait:
        """Sign the approved template, or have it signed.

        Wait, with a ``reference``: the CA has the request; the core records the reference and then calls :meth:`poll`,
        at once where ``retry_after_seconds`` is 0, else again and again with growing pauses. So what must not be done
        twice is best done in small steps, each with its reference.

        Raises :class:`~kipuka_core.errors.Unavailable` when the CA is away and has surely not issued, CsrRefused or
        NotAllowed for its refusal, and :class:`~kipuka_core.errors.OutcomeUnknown` when it may have issued, and nothing
        says whether it did. Any other exception, and no answer within ``[plugins] timeout``, counts as the last.
        """

    async def poll(self, asked: Asked) -> Issued | Wait:
        """Say what has become of a request that waits at the CA, or whose outcome is unknown (see :attr:`finds`).

        Called by one process at a time for each request. Raises Unavailable when it cannot be found out now,
        CsrRefused or NotAllowed when the CA has refused it for good, and :class:`~kipuka_core.errors.NotIssued` when it
        has surely not been issued and will not be.
        """
        raise Unavailable(f"{type(self).__name__} cannot ask its CA about request {asked.request_id}")

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """Tell the CA that a certificate of its is revoked (RFC 5280 5.3.1); where :attr:`revokes` is true.

        Also for one that the CA has revoked already. Raises Unavailable when the CA cannot be told now.
        """
        raise Unavailable(f"{type(self).__name__} cannot revoke")


class RunBlocking(Protocol):
    """Runs a blocking function in a bounded set of worker threads; raises Unavailable when all are busy for long."""

    def __call__(self, function: Callable[..., ResultT], *arguments: Any) -> Awaitable[ResultT]:
        """Call ``function(*arguments)`` there and return what it returns."""
        ...


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA's private key, wherever it lives: a cryptography key object whose ``sign`` may call a token."""

    private_key: CertificateIssuerPrivateKeyTypes
    hsm_backed: bool = False
    blocking: bool = False
    """True: a signature takes long enough to belong in a worker thread."""
    run_blocking: RunBlocking | None = None
    """Threads of the key store's own for this; None: the server's (:attr:`Services.run_blocking`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAuthority:
    """An issuer's key that signs CRLs and the certificates of OCSP responders, for what it has issued."""

    issuer: x509.Certificate
    signer: Signer
    hash_algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None
    """Of its signatures; None where the key's algorithm has none to choose."""
    times: StatusTimes = field(default_factory=StatusTimes)
