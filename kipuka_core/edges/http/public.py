"""The plain HTTP listener: CRLs, CA certificates and OCSP, which is what pointers in certificates need; never EST.

A plain ASGI application, like EST's. Nobody is authenticated and nothing is recorded: what is served is signed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.edges.http.messages import Receive, Response, Scope, Send, header, read_body
from kipuka_core.edges.http.status import status_of
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.status import StatusDesk
from kipuka_core.edges.status.ocsp import OcspAnswer
from kipuka_core.errors import (
    MethodNotAllowed,
    NotFound,
    PluginFailed,
    RequestRefused,
    StoreUnavailable,
    Unavailable,
    WrongMediaType,
)
from kipuka_core.model.status import PublishedCrl
from kipuka_core.wire.media_type import is_acceptable

log = get_logger()

CRL_TYPE = "application/pkix-crl"  # RFC 2585 4.2
CERTIFICATE_TYPE = "application/pkix-cert"  # RFC 2585 4.1
OCSP_REQUEST_TYPE, OCSP_RESPONSE_TYPE = "application/ocsp-request", "application/ocsp-response"  # RFC 6960 appendix C
MAX_OCSP_BYTES = 8192
"""Of a request: more than 32 certificates and the longest nonce take."""
_LONGEST_AGE_SECONDS = 300
"""How long a cache may hide a revocation; ETags make it cheap to ask again."""
_ISSUER_AGE_SECONDS = 3600
READ_METHODS, OCSP_METHODS = ("GET", "HEAD"), ("GET", "HEAD", "POST")
_NOTHING_HERE = "nothing is here; this server has /crl/ID.crl, /ca/ID.cer and /ocsp"
_Headers = tuple[tuple[bytes, bytes], ...]
_NOT_KEPT: _Headers = ((b"cache-control", b"no-store"),)


@dataclass(frozen=True, slots=True)
class PublicApp:
    """Answers by path; a mistake of the client is a line of text."""

    desk: StatusDesk
    clock: Callable[[], datetime]
    body_timeout_seconds: float = 30.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        response = await self._respond(scope, receive)
        # A 304 says the length of what it stands for (RFC 9110 8.6).
        await response.send(send, with_body=scope["method"] != "HEAD" and response.status != 304)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        try:
            return await self._serve(scope, receive)
        except RequestRefused as refusal:
            if isinstance(refusal, PluginFailed):
                log.error("plugin failed", plugin=refusal.plugin, detail=refusal.detail)
            return _refused(refusal, status_of(refusal))
        except StoreUnavailable:
            return _refused(Unavailable("the server's database is away; repeat the request later"), 503)
        except Exception:
            log.exception("internal error", path=scope["path"])
            return _refused(RequestRefused("the server could not process this request"), 500)

    async def _serve(self, scope: Scope, receive: Receive) -> Response:
        kind, _, rest = scope["path"].removeprefix("/").partition("/")
        if kind == "ocsp":
            _check_method(scope, OCSP_METHODS)
            if scope["method"] == "POST":
                return await self._ocsp_by_post(scope, receive, rest)
            return await self._ocsp_by_get(rest)
        if kind == "crl" and rest.endswith(".crl"):
            _check_method(scope, READ_METHODS)
            ca_id, _, key = rest.removesuffix(".crl").partition(".")
            return self._crl(await self.desk.crl(ca_id, key), scope)
        if kind == "ca" and rest.endswith(".cer"):
            _check_method(scope, READ_METHODS)
            certificate = await self.desk.issuer(rest.removesuffix(".cer"))
            body = certificate.public_bytes(Encoding.DER)
            return _tagged(scope, CERTIFICATE_TYPE, body, _max_age(_ISSUER_AGE_SECONDS))
        raise NotFound(_NOTHING_HERE)

    def _crl(self, crl: PublishedCrl, scope: Scope) -> Response:
        """If-Modified-Since is not looked at: two CRLs may be of the same second, and it does not tell them apart."""
        headers = self._until(crl.facts.this_update, crl.facts.next_update)
        return _tagged(scope, CRL_TYPE, crl.der, headers)

    async def _ocsp_by_post(self, scope: Scope, receive: Receive, rest: str) -> Response:
        """RFC 6960 A.1."""
        if not is_acceptable(header(scope, b"content-type"), OCSP_REQUEST_TYPE):
            raise WrongMediaType(f"OCSP by POST takes {OCSP_REQUEST_TYPE}")
        body = await read_body(scope, receive, max_bytes=MAX_OCSP_BYTES, timeout_seconds=self.body_timeout_seconds)
        answer = await self.desk.ocsp(body, rest.strip("/") or None)
        return Response(200, OCSP_RESPONSE_TYPE, answer.der, _NOT_KEPT)

    async def _ocsp_by_get(self, rest: str) -> Response:
        """RFC 6960 A.1, RFC 5019 5: the request is the rest of the path, in base64 whose slashes may be escaped.

        No id of a CA begins like a request does ("M"), so that both can follow /ocsp/.
        """
        text = rest.lstrip("/")
        ca_id, slash, after = text.partition("/")
        if not text or not slash or not ca_id[0].islower():
            ca_id, after = "", text
        der = _from_base64(after.lstrip("/"))
        if der is None:
            raise NotFound("OCSP by GET is /ocsp/ and the base64 of a request; by POST it is /ocsp")
        answer = await self.desk.ocsp(der, ca_id or None)
        return Response(200, OCSP_RESPONSE_TYPE, answer.der, self._ocsp_headers(answer))

    def _ocsp_headers(self, answer: OcspAnswer) -> _Headers:
        if answer.this_update is None or answer.next_update is None:
            return _NOT_KEPT
        return (*self._until(answer.this_update, answer.next_update), (b"etag", _etag(answer.der)))

    def _until(self, this_update: datetime, next_update: datetime) -> _Headers:
        """RFC 5019 6.2: nothing is kept beyond nextUpdate. Caches of HTTP/1.1 come back earlier."""
        seconds = int((next_update - self.clock()).total_seconds())
        return (
            *_max_age(max(0, min(seconds, _LONGEST_AGE_SECONDS))),
            (b"last-modified", _http_date(this_update)),
            (b"expires", _http_date(next_update)),
        )


def _check_method(scope: Scope, allow: tuple[str, ...]) -> None:
    if scope["method"] not in allow:
        raise MethodNotAllowed(f"this takes {', '.join(allow)}", allow=allow)


def _from_base64(text: str) -> bytes | None:
    padded = text.replace(" ", "+")  # what an unescaped + has become on the way
    padded += "=" * (-len(padded) % 4)
    try:
        return base64.b64decode(padded, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _tagged(scope: Scope, content_type: str, body: bytes, headers: _Headers) -> Response:
    etag = _etag(body)
    tags = {tag.strip().removeprefix("W/") for tag in (header(scope, b"if-none-match") or "").split(",")}
    headers = (*headers, (b"etag", etag))
    if etag.decode() in tags or "*" in tags:
        return Response(304, "", body, headers)
    return Response(200, content_type, body, headers)


def _etag(body: bytes) -> bytes:
    return b'"%s"' % sha256(body).hexdigest()[:32].encode()


def _max_age(seconds: int) -> _Headers:
    return ((b"cache-control", f"max-age={seconds}, public, no-transform, must-revalidate".encode()),)


def _http_date(moment: datetime) -> bytes:
    return format_datetime(moment.astimezone(UTC), usegmt=True).encode()


def _refused(refusal: RequestRefused, status: int) -> Response:
    headers: list[tuple[bytes, bytes]] = [*_NOT_KEPT]
    if isinstance(refusal, MethodNotAllowed):
        headers.append((b"allow", ", ".join(refusal.allow).encode()))
    if isinstance(refusal, Unavailable):
        headers.append((b"retry-after", str(refusal.retry_after_seconds).encode()))
    return Response(status, "text/plain; charset=utf-8", f"{refusal.reason}\n".encode(), tuple(headers))
