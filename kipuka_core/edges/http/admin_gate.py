"""The gate of the admin listener: every request but two health pages passes here first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from cryptography import x509

from kipuka_core.domain.ports import EventHub
from kipuka_core.edges.http.admin_bearer import BearerTokens
from kipuka_core.edges.http.admin_credentials import Administrator, AdminRule
from kipuka_core.edges.http.admin_refusals import RefusalCounter
from kipuka_core.edges.http.messages import Scope, header
from kipuka_core.edges.serving.sockets import normal_address
from kipuka_core.edges.tls.scope import connection_from_scope
from kipuka_core.errors import LockedOut, NotAllowed, NotAuthenticated
from kipuka_core.model.client_network import client_network
from kipuka_core.model.event import AdminRefused

CERTIFICATE_CHALLENGE = 'Certificate realm="kipuka admin"'
"""No registered scheme, which says the truth where only certificates count: no header would help."""
BEARER_CHALLENGE = 'Bearer realm="kipuka admin"'
_HEALTH = "/admin/health"
_MAX_PATH_LENGTH = 200


class Standing(Protocol):
    """Whether a certificate that the rule accepts still counts."""

    async def check(self, chain: Sequence[x509.Certificate], now: datetime, *, needs_store: bool) -> None:
        """Accept a verified chain, leaf first.

        Without ``needs_store`` a database that is away is no reason to refuse. Raises NotAuthenticated, Unavailable,
        StoreUnavailable.
        """
        ...


class AdminGate:
    """Says who asks, or refuses; counts and records the refusals."""

    def __init__(
        self,
        *,
        rule: AdminRule,
        standing: Standing,
        events: EventHub,
        clock: Callable[[], datetime],
        refusals: RefusalCounter | None = None,
        tokens: BearerTokens | None = None,
    ) -> None:
        self._rule = rule
        self._standing = standing
        self._events = events
        self._clock = clock
        self._refusals = refusals or RefusalCounter()
        self._tokens = tokens or BearerTokens(())

    @property
    def challenge(self) -> str:
        """What a 401 names (RFC 9110 15.5.2): no browser asks for a password because of it."""
        return f"{CERTIFICATE_CHALLENGE}, {BEARER_CHALLENGE}" if self._tokens else CERTIFICATE_CHALLENGE

    async def admit(self, scope: Scope, *, method: str, path: str) -> Administrator:
        """The administrator who sends this request; ``path`` is decoded and without its query.

        Raises NotAuthenticated, NotAllowed, LockedOut (too many refusals of this address), Unavailable and
        StoreUnavailable. A good credential is admitted whatever was refused to its neighbours: certificates and tokens
        of 32 characters cannot be guessed, and nobody shall lock administrators out who share an address with them (as
        behind SSH forwarding).
        """
        try:
            administrator = await self._known(scope, method, path)
            check_role(administrator, method)
        except (NotAuthenticated, NotAllowed) as refusal:
            await self.refused(scope, refusal, path=path)
            raise
        return administrator

    async def sign_in(self, scope: Scope, token: str, *, path: str) -> Administrator:
        """The administrator whose bearer token this is, for a session. Raises NotAuthenticated and LockedOut."""
        administrator = self._tokens.administrator(f"Bearer {token}") if token else None
        if administrator is None:
            refusal = NotAuthenticated("the bearer token is not one of this server", code="wrong_token")
            await self.refused(scope, refusal, path=path)
            raise refusal
        return administrator

    async def refused(self, scope: Scope, refusal: NotAuthenticated | NotAllowed, *, path: str) -> None:
        """Count and record a refusal that somebody raises now. Raises LockedOut when this address has too many."""
        now = self._clock()
        connection = connection_from_scope(scope, now)
        client = scope.get("client") or ("", 0)
        await self._count(
            AdminRefused(
                time=now,
                actor=refusal.actor,
                source_address=normal_address(str(client[0])),
                tls_version=connection.tls_version if connection else "",
                code=refusal.code,
                path=_shown(path),
                reason=refusal.reason,
            )
        )

    def client_chain(self, scope: Scope) -> Sequence[x509.Certificate]:
        """The verified client certificate of a connection with those above it; empty without one that counts now."""
        connection = connection_from_scope(scope, self._clock())
        return connection.client_chain if connection else ()

    @property
    def has_tokens(self) -> bool:
        """Whether anybody can come with a bearer token."""
        return bool(self._tokens)

    async def _known(self, scope: Scope, method: str, path: str) -> Administrator:
        now = self._clock()
        connection = connection_from_scope(scope, now)
        chain = connection.client_chain if connection else ()
        administrator = self._by_token(scope, chain) if connection else None
        if administrator is None:
            administrator = self._rule.administrator(chain, now)
            await self._standing.check(chain, now, needs_store=not _is_health(method, path))
        return administrator

    def _by_token(self, scope: Scope, chain: Sequence[x509.Certificate]) -> Administrator | None:
        """The administrator of a bearer token; a right one is what counts, beside a certificate too.

        None: by certificate then. Raises NotAuthenticated for a wrong one without a certificate beside it.
        """
        authorization = header(scope, b"authorization")
        if authorization is None or not self._tokens or not authorization.lower().startswith("bearer "):
            return None
        administrator = self._tokens.administrator(authorization)
        if administrator is None and not chain:
            raise NotAuthenticated("the bearer token is not one of this server", code="wrong_token")
        return administrator

    async def _count(self, refused: AdminRefused) -> None:
        counted = self._refusals.count(client_network(refused.source_address))
        if counted.retry_after_seconds is None:
            if counted.is_event or not refused.actor:  # those of nobody known are gathered by the event hub
                await self._events.emit(refused)
            return
        too_many = LockedOut(
            "too many requests from this address were refused; repeat the request later",
            retry_after_seconds=counted.retry_after_seconds,
        )
        if counted.is_event:
            await self._events.emit(
                AdminRefused(
                    time=refused.time,
                    source_address=refused.source_address,
                    tls_version=refused.tls_version,
                    code="too_many_requests",
                    path=refused.path,
                    reason=too_many.reason,
                )
            )
        raise too_many


def _is_health(method: str, path: str) -> bool:
    """Health pages say that the database is away, so they are shown while it is."""
    return method in {"GET", "HEAD"} and (path == _HEALTH or path.startswith(f"{_HEALTH}/"))


def check_role(administrator: Administrator, method: str) -> None:
    """Raises NotAllowed for a viewer who sends what may change something."""
    if not administrator.may(method):
        refusal = NotAllowed("a viewer may look and change nothing; this needs an operator", code="viewer")
        refusal.actor = administrator.name
        raise refusal


def _shown(path: str) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in path[:_MAX_PATH_LENGTH])
    return printable if len(path) <= _MAX_PATH_LENGTH else f"{printable}…"
