"""The admin listener's application: Quart, JSON throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol, cast

from pydantic import BaseModel
from quart import Blueprint, Quart, Response, g, request
from quart.typing import ResponseReturnValue
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug import exceptions
from werkzeug.routing import MapAdapter, RequestRedirect

from kipuka_core.edges.http.admin_health import OPEN_ENDPOINTS, OPEN_PATHS
from kipuka_core.edges.http.messages import Scope
from kipuka_core.edges.http.status import status_of
from kipuka_core.edges.log import get_logger
from kipuka_core.errors import (
    ConfigurationError,
    LockedOut,
    NotAllowed,
    NotAuthenticated,
    PluginFailed,
    RequestRefused,
    StoreUnavailable,
    Unavailable,
)
from kipuka_core.model.administrator import Administrator

log = get_logger()

_MAX_BODY_BYTES = 1 << 20
_BODY_TIMEOUT_SECONDS = 30
_CODES: dict[type[RequestRefused], str] = {
    NotAuthenticated: "unauthorized",
    NotAllowed: "forbidden",
    LockedOut: "too_many_requests",
}
"""The words of the HTTP interface; the events have more exact ones. Other refusals keep their own."""


class AdminQuart(Quart):
    """Quart, where it would fail before the gate, or answer in words of its own.

    A path that is nearly right is 404: a redirect would quote the Host header.
    """

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        """As Quart's; a request target that is no path (``*``, a URL, a query alone) is one that does not exist."""
        if scope["type"] == "http" and not scope["path"].startswith("/"):
            scope = {**scope, "path": f"/{scope['path']}"}
        await super().asgi_app(scope, receive, send)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Routes without the Host header: it decides nothing here, and what is no host name must not be an error."""
        if request is None:
            return super().create_url_adapter(request)
        return self.url_map.bind(
            "admin", url_scheme=request.scheme, default_method=request.method, path_info=request.path
        )

    def raise_routing_exception(self, request: BaseRequestWebsocket) -> NoReturn:
        """404 instead of a redirect."""
        if isinstance(request.routing_exception, RequestRedirect):
            raise exceptions.NotFound
        super().raise_routing_exception(request)


class Gate(Protocol):
    """Who may come in."""

    @property
    def challenge(self) -> str:
        """What a 401 names (RFC 9110 15.5.2)."""
        ...

    async def admit(self, scope: Scope, *, method: str, path: str) -> Administrator:
        """The administrator who sends this request. Raises as :meth:`.admin_gate.AdminGate.admit`."""
        ...


def admin_app(
    gate: Gate,
    parts: Sequence[Blueprint],
    plugin_parts: Sequence[Blueprint] = (),
    plugin_settings: Mapping[str, BaseModel] | None = None,
) -> Quart:
    """The application; ``plugin_parts`` are what plugins bring (hook ``kipuka_admin_routes``).

    A plugin's routes find its ``[plugin.NAME]`` at ``quart.current_app.config["KIPUKA_SETTINGS"]["NAME"]``.

    Every request passes the gate, but for the paths of ``OPEN_PATHS``; ``quart.g.administrator`` is who came through.
    A plugin's routes lie behind it too, and those that are no GET need an operator.

    Raises ConfigurationError for a plugin's blueprint whose name or path is taken.
    """
    app = AdminQuart("kipuka_core", static_folder=None, template_folder=None)
    app.config["KIPUKA_SETTINGS"] = plugin_settings or {}
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = _BODY_TIMEOUT_SECONDS
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False

    @app.before_request
    async def only_administrators() -> None:
        if request.path in OPEN_PATHS and request.endpoint in {*OPEN_ENDPOINTS, None}:
            return
        check_origin()
        g.administrator = await gate.admit(cast("Scope", request.scope), method=request.method, path=request.path)

    @app.after_request
    async def not_stored(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    _handle_errors(app, gate.challenge)
    for part in parts:
        app.register_blueprint(part)
    for blueprint in plugin_parts:
        _register(app, blueprint)
    return app


def check_origin() -> None:
    """Refuse what a page of another site sends: a browser adds the client certificate to that by itself.

    Raises NotAllowed.
    """
    if request.method in {"GET", "HEAD"}:
        return
    origin = request.headers.get("Origin")
    is_foreign = request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}
    if is_foreign or (origin is not None and origin.partition("://")[2] != request.headers.get("Host")):
        raise NotAllowed("this comes from a page of another site", code="cross_site")


def _handle_errors(app: Quart, challenge: str) -> None:
    @app.errorhandler(RequestRefused)
    async def refused(refusal: RequestRefused) -> ResponseReturnValue:
        if isinstance(refusal, PluginFailed):
            log.error("plugin failed", plugin=refusal.plugin, detail=refusal.detail)
        status = status_of(refusal)
        code = next((_CODES[kind] for kind in type(refusal).__mro__ if kind in _CODES), refusal.code)
        headers = {}
        if status == 401:
            headers["WWW-Authenticate"] = challenge
        if isinstance(refusal, LockedOut | Unavailable):
            headers["Retry-After"] = str(refusal.retry_after_seconds)
        return _error(status, code, refusal.reason, headers)

    @app.errorhandler(StoreUnavailable)
    async def store_away(_: StoreUnavailable) -> ResponseReturnValue:
        away = Unavailable("the server's database is away; repeat the request later", code="store_unavailable")
        return await refused(away)

    @app.errorhandler(exceptions.HTTPException)
    async def http_error(error: exceptions.HTTPException) -> ResponseReturnValue:
        headers = {}
        if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods:
            headers["Allow"] = ", ".join(sorted(error.valid_methods))
        code = error.name.lower().replace(" ", "_").replace("'", "")
        return _error(error.code or 500, code, error.description or error.name, headers)

    @app.errorhandler(Exception)
    async def internal_error(error: Exception) -> ResponseReturnValue:
        log.error("admin request failed", path=request.path, exc_info=error)
        return _error(500, "internal_error", "the server could not process this request")


def _register(app: Quart, blueprint: Blueprint) -> None:
    before = {(rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    try:
        app.register_blueprint(blueprint, url_prefix=blueprint.url_prefix or f"/admin/{blueprint.name}")
    except ValueError as error:
        raise ConfigurationError("plugins.enable", f"a plugin's admin routes cannot be added: {error}") from None
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith(f"{blueprint.name}."):
            continue
        if not rule.rule.startswith("/admin/") or any((rule.rule, method) in before for method in rule.methods or ()):
            raise ConfigurationError(
                "plugins.enable", f"a plugin brings the admin route {rule.rule}, which is taken or not under /admin/"
            )


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> ResponseReturnValue:
    return {"error": code, "message": message}, status, headers or {}
