"""What a TLS connection says about its client."""

from __future__ import annotations

import _ssl
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509

from kipuka_core.edges.tls.exporter import (
    ExporterUnavailable,
    export_channel_binding,
    exporter_problem,
    has_extended_master_secret,
)
from kipuka_core.edges.tls.reverify import ChainVerifier, NoLongerTrusted
from kipuka_core.errors import CsrRefused


class PeerRefused(ssl.SSLCertVerificationError):
    """A resumed session whose certificate is no longer good, where every connection needs a certificate.

    ``verify_code`` is OpenSSL's; ``code`` is ``no_client_certificate`` for a session that never had one.
    """

    def __init__(self, reason: str, *, verify_code: int = 0, code: str = "") -> None:
        super().__init__(reason)
        self.verify_code = verify_code
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])  # SSLError would show the tuple of its arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of one TLS connection.

    ``chain_der`` is verified, leaf first and trust anchor last, empty without a client certificate; ``chain_error``
    says why a certificate that was there does not count. ``tls_version`` is ``TLSv1.2`` or ``TLSv1.3``, ``cipher``
    OpenSSL's name. ``channel_binding`` gives the value of this connection or raises CsrRefused
    (``channel_binding_unavailable``).
    """

    chain_der: tuple[bytes, ...]
    chain_error: str | None
    tls_version: str
    cipher: str
    session_reused: bool
    channel_binding: Callable[[], bytes] = field(repr=False)


class PeerReader:
    """Reads peers from SSL objects, for one listener.

    ``required`` is the listener's client_auth mode. :meth:`trust` replaces the anchors when they change; a session that
    was made before then counts only as far as it still verifies.
    """

    def __init__(
        self,
        anchors: Sequence[x509.Certificate],
        *,
        required: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._verifier = ChainVerifier(anchors)
        self._required = required
        self._clock = clock

    def trust(self, anchors: Sequence[x509.Certificate]) -> None:
        """Trust these anchors from now on, also for sessions that are resumed."""
        self._verifier.trust(anchors)

    def read(self, ssl_object: ssl.SSLObject) -> Peer:
        """Read the peer after its handshake.

        Raises PeerRefused for a resumed session without a valid certificate where certificates are required.
        """
        reused, error, verify_code = bool(ssl_object.session_reused), None, 0
        try:
            chain_der = self._resumed_chain(ssl_object) if reused else self._fresh_chain(ssl_object)
        except NoLongerTrusted as problem:
            chain_der, verify_code = (), problem.verify_code
            error = f"the certificate of the resumed session is not accepted: {problem}"
        if self._required and error is not None:
            raise PeerRefused(f"a client certificate is required: {error}", verify_code=verify_code)
        if self._required and not chain_der:
            raise PeerRefused("a client certificate is required: none was presented", code="no_client_certificate")
        cipher = ssl_object.cipher()
        return Peer(
            chain_der=chain_der,
            chain_error=error,
            tls_version=ssl_object.version() or "",
            cipher=cipher[0] if cipher else "",
            session_reused=reused,
            channel_binding=lambda: channel_binding(ssl_object),
        )

    def _fresh_chain(self, ssl_object: ssl.SSLObject) -> tuple[bytes, ...]:
        chain_der = _verified_chain(ssl_object)
        if chain_der:
            self._verifier.learn(chain_der)
        return chain_der

    def verify_again(self, chain_der: Sequence[bytes]) -> tuple[tuple[bytes, ...], str | None]:
        """The chain of a kept connection, leaf first, as it verifies now; empty, and why, when it does not."""
        self._verifier.learn((*chain_der, chain_der[-1]))  # what was its anchor may be an intermediate now
        try:
            return self._verifier.verify(chain_der[0], self._clock()), None
        except NoLongerTrusted as error:
            return (), f"the certificate of this connection is not accepted any more: {error}"

    def _resumed_chain(self, ssl_object: ssl.SSLObject) -> tuple[bytes, ...]:
        leaf_der = ssl_object.getpeercert(binary_form=True)
        return self._verifier.verify(leaf_der, self._clock()) if leaf_der else ()


def channel_binding(ssl_object: ssl.SSLObject) -> bytes:
    """``tls-unique`` (RFC 5929 3) on TLS 1.2, ``tls-exporter`` (RFC 9266) on TLS 1.3.

    A resumed TLS 1.2 session has a safe ``tls-unique`` only with the extended master secret (RFC 7627 1, RFC 9266 1).
    OpenSSL is asked for it. Raises CsrRefused where the connection has no safe value.
    """
    try:
        value = _exporter(ssl_object) if ssl_object.version() == "TLSv1.3" else _tls_unique(ssl_object)
    except ExporterUnavailable as error:
        raise _unavailable("this server cannot bind requests to this connection") from error
    if not value:
        raise _unavailable("this connection has no channel binding value")
    return value


def _exporter(ssl_object: ssl.SSLObject) -> bytes:
    if exporter_problem() is not None:
        raise _unavailable("this server has no channel binding on TLS 1.3: connect with TLS 1.2")
    return export_channel_binding(ssl_object)


def _tls_unique(ssl_object: ssl.SSLObject) -> bytes | None:
    if ssl_object.session_reused and (exporter_problem() is not None or not has_extended_master_secret(ssl_object)):
        raise _unavailable("channel binding is not safe on this resumed session: connect without resuming")
    return ssl_object.get_channel_binding("tls-unique")


def _unavailable(reason: str) -> CsrRefused:
    return CsrRefused(reason, code="channel_binding_unavailable")


def _verified_chain(ssl_object: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain that the handshake verified; public since CPython 3.13, inside the object before."""
    public = getattr(ssl_object, "get_verified_chain", None)
    if public is not None:
        return tuple(public())
    certificates = ssl_object._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    return tuple(certificate.public_bytes(_ssl.ENCODING_DER) for certificate in certificates or ())
