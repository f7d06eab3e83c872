"""An EST client (RFC 7030) for servers that ask another server: one exchange, and what its outcome means.

Imports httpx, which takes a while: imported only where a CA has the backend ``est``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import pkcs7

from kipuka_builtin.external_ca import shown_text
from kipuka_core import CsrRefused, NotAllowed, OutcomeUnknown, Unavailable

MAX_CERTIFICATES_BYTES = 64 * 1024
MAX_CACERTS_BYTES = 1024 * 1024
_DEFAULT_RETRY_SECONDS = 60
_LONGEST_RETRY_SECONDS = 7 * 86_400
_MAX_CONNECTIONS = 100
_OUR_MISTAKES = frozenset({401, 404, 405, 406, 407, 411, 415, 421, 426})
"""What an upstream answers to kipuka's own credential, URL or way of asking; no device can change anything about it."""
_LATER = frozenset({408, 425, 429, 503})
_LOG = logging.getLogger("kipuka_builtin.est")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_seconds(self) -> int:
        """Retry-After (RFC 9110 10.2.3), within bounds."""
        text = self.headers.get("retry-after", "").strip()
        seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else _seconds_until(text)
        return max(1, min(seconds, _LONGEST_RETRY_SECONDS))

    @property
    def text(self) -> str:
        """What an error says, in one line; empty where it is a page for a browser or nothing at all."""
        kind = self.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
        return shown_text(self.body.decode(errors="replace")) if kind == "text/plain" else ""

    def certificates(self) -> list[x509.Certificate]:
        """Those of a certs-only answer (RFC 7030 4.1.3), in no order. Raises ValueError."""
        try:
            der = base64.b64decode(b"".join(self.body.split()), validate=True)
            return pkcs7.load_der_pkcs7_certificates(der)
        except (binascii.Error, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from None


class EstUpstream:
    """Asks one EST server. ``timeout_seconds`` is for all that one call does."""

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        timeout_seconds: float,
        *,
        auth: tuple[str, bytes] | None,
        presents_certificate: bool,
    ) -> None:
        """``auth``: user name and password for HTTP Basic. ``presents_certificate``: the context holds one."""
        self.url = url
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._auth = httpx.BasicAuth(*auth) if auth else None
        self._presents_certificate = presents_certificate
        self._places = asyncio.Semaphore(_MAX_CONNECTIONS)

    async def cacerts(self) -> list[x509.Certificate]:
        """The CA certificates (RFC 7030 4.1). Raises Unavailable."""
        async with self._exchange() as exchange:
            try:
                answer = await exchange.answer("GET", "cacerts", limit_bytes=MAX_CACERTS_BYTES)
                if answer.status == 200:
                    return answer.certificates()
                problem = f"answers /cacerts with HTTP {answer.status}"
            except OutcomeUnknown:
                problem = "does not answer /cacerts"
            except ValueError:
                problem = "answers /cacerts with what is no certs-only message"
        raise Unavailable(f"the upstream EST server {problem}")

    async def enrol(self, csr_der: bytes) -> Answer:
        """Have a CSR enrolled (RFC 7030 4.2): an answer of status 200 or 202.

        Raises Unavailable when it has surely not been done, CsrRefused or NotAllowed for the upstream's refusal,
        OutcomeUnknown otherwise.
        """
        async with self._exchange() as exchange:
            if self._presents_certificate:
                await exchange.make_sure_of_the_handshake()
            headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
            answer = await exchange.answer(
                "POST",
                "simpleenroll",
                limit_bytes=MAX_CERTIFICATES_BYTES,
                headers=headers,
                content=base64.encodebytes(csr_der),
            )
        if answer.status in {200, 202}:
            return answer
        raise self._no("simpleenroll", answer)

    @asynccontextmanager
    async def _exchange(self) -> AsyncIterator[_Exchange]:
        """A connection for one call, for which there is a bounded number of places."""
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable("too many requests wait for the upstream EST server", retry_after_seconds=10) from None
        client = httpx.AsyncClient(
            verify=self._context,
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113  # one limit for the whole call
            # Never kept for another call: it may have been closed by then, and nobody knows what of a request arrived.
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": "kipuka"},
            auth=self._auth,
        )
        try:
            async with client:
                yield _Exchange(client, self.url, deadline)
        finally:
            self._places.release()

    def _no(self, operation: str, answer: Answer) -> CsrRefused | NotAllowed | Unavailable:
        """The error for an answer that brings no certificate and does not tell to wait for one."""
        status, said = answer.status, answer.text
        if status in _LATER:
            return Unavailable(
                "the upstream EST server is not available now", retry_after_seconds=answer.retry_after_seconds
            )
        if 300 <= status < 400 or status in _OUR_MISTAKES:
            _LOG.error("%s %s answers HTTP %d: %s", self.url, operation, status, said or "(nothing readable)")
            return Unavailable("the upstream EST server does not take requests from this server")
        if status == 403:
            return NotAllowed(f"the certification authority refuses this request: {said or 'HTTP 403'}")
        if 400 <= status < 500:
            return CsrRefused(f"the certification authority refuses this request: {said or f'HTTP {status}'}")
        _LOG.warning("%s %s answers HTTP %d: %s", self.url, operation, status, said or "(nothing readable)")
        return OutcomeUnknown(f"the upstream EST server answers HTTP {status}")


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Requests on one connection, until ``deadline``, a time of the event loop."""

    client: httpx.AsyncClient
    url: str
    deadline: float

    async def make_sure_of_the_handshake(self) -> None:
        """Ask for something harmless, on the connection that the next request uses.

        In TLS 1.3 a server refuses a client's certificate after the client has begun to send, and what has come of the
        request cannot be told. Raises Unavailable.
        """
        try:
            await self.answer("GET", "cacerts", limit_bytes=MAX_CACERTS_BYTES)
        except OutcomeUnknown:
            raise Unavailable("the upstream EST server does not take the connection") from None

    async def answer(
        self,
        method: str,
        operation: str,
        *,
        limit_bytes: int,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Raises Unavailable when the request has surely not reached the upstream, else OutcomeUnknown."""
        sent = False

        async def watch(event: str, _details: Mapping[str, object]) -> None:
            nonlocal sent
            sent = sent or event == "http11.send_request_headers.started"

        request = self.client.build_request(
            method,
            f"{self.url}/{operation}",
            # Compressed bodies have no bound before they are unpacked.
            headers={"Accept": "application/pkcs7-mime", "Accept-Encoding": "identity", **(headers or {})},
            content=content,
            # httpcore closes a connection in the making after a time-out of its own, and forgets it when cancelled. The
            # time is for TCP and for TLS; the deadline is for everything.
            timeout=httpx.Timeout(None, connect=max(0.0, self.deadline - asyncio.get_running_loop().time()) / 2),
            extensions={"trace": watch},
        )
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self._read(request, limit_bytes)
        except TimeoutError:
            problem = "gives no answer in time"
        except (httpx.TransportError, httpx.InvalidURL, OSError) as error:  # ssl.SSLError comes through as it is
            problem = shown_text(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        except _UnreadableAnswer as error:
            problem = str(error)
        _LOG.warning("%s %s: %s", self.url, operation, problem)
        if sent:
            raise OutcomeUnknown("the upstream EST server was asked and gave no answer that can be used")
        raise Unavailable("the upstream EST server cannot be reached")

    async def _read(self, request: httpx.Request, limit_bytes: int) -> Answer:
        response = await self.client.send(request, stream=True)
        try:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise _UnreadableAnswer("answers compressed, which was not asked for")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > limit_bytes:
                    raise _UnreadableAnswer(f"answers with more than {limit_bytes} bytes")
            return Answer(response.status_code, response.headers, bytes(body))
        finally:
            await response.aclose()


class _UnreadableAnswer(Exception):
    """An answer that is too long or of a form that was not asked for."""


def _seconds_until(date: str) -> int:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return _DEFAULT_RETRY_SECONDS
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int((moment - datetime.now(UTC)).total_seconds())
