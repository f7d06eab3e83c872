"""The EST listener: RFC 7030 over ASGI.

A plain ASGI application. Quart, which serves the admin listener, adds at least 0.13 ms of CPU to a request, more than
half of what the cryptography of a P-256 enrolment takes, and six fixed routes need no framework.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kipuka_core.domain.meter import Meter
from kipuka_core.domain.pipeline import Road
from kipuka_core.domain.ports import EventHub
from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.edges.http.messages import Receive, Response, Scope, Send, header, read_body
from kipuka_core.edges.http.refusals import printable, refusal_response
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.tls.scope import connection_from_scope
from kipuka_core.errors import (
    InsecureTransport,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PluginFailed,
    PostcheckFailed,
    RequestRefused,
    StoreUnavailable,
    Unavailable,
    WrongMediaType,
)
from kipuka_core.model.certificate import CaChain, CsrAttributes, Issued
from kipuka_core.model.enrolment import EnrolRequest
from kipuka_core.model.event import EnrolmentRefused
from kipuka_core.model.label import Label
from kipuka_core.model.request import Connection, Operation
from kipuka_core.model.verdict import Wait
from kipuka_core.wire import base64_body, basic_auth, csrattrs, media_type, paths, pkcs7, quirks

log = get_logger()

METHODS: dict[Operation, tuple[str, ...]] = {
    Operation.CACERTS: ("GET", "HEAD"),
    Operation.CSRATTRS: ("GET", "HEAD"),
    Operation.SIMPLEENROLL: ("POST",),
    Operation.SIMPLEREENROLL: ("POST",),
    Operation.SERVERKEYGEN: ("POST",),
    Operation.FULLCMC: ("POST",),
}
NOT_OFFERED = (Operation.SERVERKEYGEN, Operation.FULLCMC)
CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
_BASE64 = ((b"content-transfer-encoding", b"base64"),)
HOW_TO_START = (
    "EST needs TLS, and a server that can show the client certificate to the application: start kipuka with"
    " `kipuka serve`, or with `hypercorn -c python:kipuka_core.hypercorn_config kipuka_core:app`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstSettings:
    """What the EST listener is told."""

    base_path: str = "/.well-known/est"
    max_body_bytes: int = 65536
    body_timeout_seconds: float = 30.0


@dataclass(slots=True, kw_only=True)
class _Request:
    """A request on its way; what is known of it grows, and the event of a refusal holds what was known."""

    request_id: str
    scope: Scope
    receive: Receive
    time: datetime
    connection: Connection | None = None
    route: paths.Route | None = None


class EstApp:
    """The six operations under every label."""

    def __init__(
        self,
        *,
        road: Road,
        labels: Mapping[str, Label],
        advertised: Mapping[str, CsrAttributes],
        events: EventHub,
        clock: Callable[[], datetime],
        settings: EstSettings,
        required_standing: CertificateStanding | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._road = road
        self._labels = labels
        self._csrattrs_der = {name: csrattrs.encode(attributes) for name, attributes in advertised.items()}
        self._events = events
        self._clock = clock
        self._settings = settings
        self._required_standing = required_standing
        self._meter = meter or Meter()
        self._cacerts_der: dict[CaChain, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        request = _Request(request_id=secrets.token_hex(8), scope=scope, receive=receive, time=self._clock())
        response = await self._respond(request)
        self._meter.answered(request.route.operation if request.route else "", response.status)
        await response.send(send, with_body=scope["method"] != "HEAD")

    async def _respond(self, request: _Request) -> Response:
        try:
            return await self._serve(request)
        except RequestRefused as error:
            refusal = error
        except StoreUnavailable:
            refusal = Unavailable("the server's database is away; repeat the request later", code="store_unavailable")
        except Exception:
            log.exception("internal error", request_id=request.request_id)
            refusal = RequestRefused("the server could not process this request", code="internal_error")
            await self._record_refusal(request, refusal)
            return refusal_response(refusal, request.request_id, status=500)
        await self._record_refusal(request, refusal)
        return refusal_response(refusal, request.request_id)

    async def _serve(self, request: _Request) -> Response:
        scope = request.scope
        request.connection = connection_from_scope(scope, request.time)
        if request.connection is None:
            raise InsecureTransport(HOW_TO_START)
        await self._check_standing(request.connection, request.time)
        request.route = route = paths.parse(scope["path"], self._settings.base_path)
        label = self._labels.get(route.label)
        if label is None:
            raise NotFound(f"there is no label {route.label!r} here", code="unknown_label")
        operation = route.operation
        if scope["method"] not in METHODS[operation]:
            allow = METHODS[operation]
            raise MethodNotAllowed(f"{operation} takes {' or '.join(allow)}", allow=allow)
        if operation in NOT_OFFERED:
            raise NotFound(f"{operation} is not offered here", code="operation_not_offered")
        if operation is Operation.CACERTS:
            return await self._cacerts(label, request)
        if operation is Operation.CSRATTRS:
            return self._csrattrs(label, request)
        return await self._enrol(operation, label, request)

    async def _check_standing(self, connection: Connection, now: datetime) -> None:
        """In client_auth mode ``required`` a revoked certificate gets nothing, ``/cacerts`` included."""
        if self._required_standing is None:
            return
        if not connection.client_chain:
            raise NotAuthenticated(
                "every request here needs a valid client certificate", code="client_certificate_required"
            )
        await self._required_standing.check(connection.client_chain, now)

    async def _cacerts(self, label: Label, request: _Request) -> Response:
        """RFC 7030 4.1: the whole chain up to the root, and what clients need during a roll-over."""
        chain = await self._road.chain(label)
        der = self._cacerts_der.get(chain)
        if der is None:
            self._cacerts_der.clear()
            der = pkcs7.certs_only((*chain.certificates, *chain.previous))
            self._cacerts_der[chain] = der
        return self._base64(der, CERTS_ONLY, request)

    def _csrattrs(self, label: Label, request: _Request) -> Response:
        """RFC 7030 4.5: what the label's policies will look for; 204 when they have nothing to say."""
        der = self._csrattrs_der[label.name]
        if der is None:
            return Response(204, "", b"")
        return self._base64(der, "application/csrattrs", request)

    async def _enrol(self, operation: Operation, label: Label, request: _Request) -> Response:
        """RFC 7030 4.2."""
        scope, settings = request.scope, self._settings
        body = await read_body(
            scope,
            request.receive,
            max_bytes=settings.max_body_bytes,
            timeout_seconds=settings.body_timeout_seconds,
        )
        content_type = header(scope, b"content-type")
        if not media_type.is_acceptable(content_type, "application/pkcs10"):
            raise WrongMediaType(
                f"{operation} takes application/pkcs10; send that Content-Type (with curl: -H 'Content-Type:"
                " application/pkcs10' --data-binary @FILE)"
            )
        authorization = header(scope, b"authorization")
        assert request.connection is not None  # noqa: S101  # _serve refused the others
        outcome = await self._road.enrol(
            EnrolRequest(
                request_id=request.request_id,
                operation=operation,
                label=label,
                connection=request.connection,
                credentials=basic_auth.parse_basic(authorization) if authorization else None,
                body=body,
                time=request.time,
            )
        )
        if isinstance(outcome, Wait):
            return _waiting(outcome, label, request.request_id)
        return self._issued(outcome, request)

    def _issued(self, issued: Issued, request: _Request) -> Response:
        """RFC 7030 4.2.3: only the certificate, no chain."""
        return self._base64(pkcs7.certs_only((issued.certificate,)), CERTS_ONLY, request)

    def _base64(self, der: bytes, content_type: str, request: _Request) -> Response:
        scope = request.scope
        traits = quirks.ClientTraits(
            tls_version=request.connection.tls_version if request.connection else "",
            http_version=scope["http_version"],
            headers_present=frozenset(name.decode("latin-1") for name, _ in scope["headers"]),
        )
        body = base64_body.encode_body(der, quirks.response_columns(traits))
        return Response(200, content_type, body, _BASE64)

    async def _record_refusal(self, request: _Request, refusal: RequestRefused) -> None:
        if isinstance(refusal, PluginFailed):
            log.error("plugin failed", plugin=refusal.plugin, detail=refusal.detail, request_id=request.request_id)
        elif isinstance(refusal, PostcheckFailed):
            log.error(
                "CA returned what was not approved",
                plugin=refusal.plugin,
                detail=f"{refusal.detail}; issue has to return what approved.template says",
                request_id=request.request_id,
            )
        client = request.scope.get("client") or ("", 0)
        connection, route = request.connection, request.route
        await self._events.emit(
            EnrolmentRefused(
                time=request.time,
                request_id=request.request_id,
                actor=refusal.actor,
                authenticator=refusal.authenticator,
                label=route.label if route else "",
                operation=route.operation if route else "",
                source_address=connection.source_address if connection else str(client[0]),
                tls_version=connection.tls_version if connection else "",
                code=refusal.code,
                reason=refusal.reason,
            )
        )


def _waiting(wait: Wait, label: Label, request_id: str) -> Response:
    """202 always says when to come back (RFC 7030 4.2.3)."""
    seconds = wait.retry_after_seconds or label.retry_after_seconds
    text = f"{printable(wait.reason) or 'the request waits for a decision'}\nrequest {request_id}\n"
    return Response(202, "text/plain; charset=utf-8", text.encode(), ((b"retry-after", str(seconds).encode()),))
