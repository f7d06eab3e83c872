"""The console's application: its headers, its errors as pages, and everything before a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined
from quart import Blueprint, Quart, Response, g, redirect, render_template, request
from quart.typing import ResponseReturnValue
from werkzeug import exceptions

from kipuka_core.edges.http.admin import AdminQuart
from kipuka_core.edges.http.console import audit, certificates, inventory, lockouts, overview, passwords, waiting
from kipuka_core.edges.http.console.asking import check_path
from kipuka_core.edges.http.console.door import (
    BROWSER,
    HOME,
    NOTICE,
    SESSION,
    SIGN_IN,
    Door,
    NobodyYet,
    drop_cookie,
    safe_next,
    set_cookie,
)
from kipuka_core.edges.http.console.form_tokens import FormTokens
from kipuka_core.edges.http.console.looks import FILTERS, shown
from kipuka_core.edges.http.console.notices import NOTICES
from kipuka_core.edges.http.console.services import ConsoleServices
from kipuka_core.edges.http.console.sessions import Sessions
from kipuka_core.edges.http.status import status_of
from kipuka_core.edges.log import get_logger
from kipuka_core.errors import (
    LockedOut,
    NotAuthenticated,
    PluginFailed,
    RequestRefused,
    StoreUnavailable,
    Unavailable,
)

log = get_logger()

_HERE = Path(__file__).parent
_MAX_BODY_BYTES = 1 << 20
_BODY_TIMEOUT_SECONDS = 30
_ASSET_TYPES = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: then browsers send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TITLES = {
    400: "This cannot be asked", 403: "Not allowed", 404: "Not found", 405: "Not possible", 409: "It does not fit",
    413: "Too long", 422: "Please correct this", 429: "Too many refusals", 500: "The server failed", 503: "Not now",
}  # fmt: skip
_PAGES = (overview, certificates, passwords, waiting, inventory, audit, lockouts)


def console_app(services: ConsoleServices) -> Quart:
    """The application; every path of it begins with ``/console/``."""
    # A class of its own, so that its options are no other application's.
    app = _ConsoleQuart("kipuka_core", static_folder=None, template_folder=str(_HERE / "templates"))
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = _MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = _BODY_TIMEOUT_SECONDS
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.jinja_env.filters.update(FILTERS)
    door = Door(services.gate, Sessions(), FormTokens())
    assets = _Assets()

    @app.before_request
    async def enter() -> None:
        await door.enter()
        check_path(request.view_args or {})

    @app.after_request
    async def finish(answer: Response) -> Response:
        for name, value in _HEADERS.items():
            answer.headers[name] = value
        answer.headers.setdefault("Cache-Control", "no-store")
        if answer.mimetype == "text/html":
            _keep_cookies(answer)
        return answer

    @app.context_processor
    async def around() -> dict[str, Any]:
        return {
            "administrator": g.get("administrator"),
            "may_change": bool(g.get("administrator")) and g.administrator.may_change,
            "has_session": g.get("has_session", False),
            "form_token": g.get("form_token", ""),
            "notice": NOTICES.get(request.cookies.get(NOTICE, "")),
            "asset": assets.url,
            "here": request.blueprint or "",
        }

    app.register_blueprint(_doorway(services, door, assets))
    for page in _PAGES:
        app.register_blueprint(page.pages(services))
    _handle_errors(app, services)
    return app


class _ConsoleQuart(AdminQuart):
    jinja_options = {  # noqa: RUF012  # Quart's own way to say it
        "autoescape": True, "undefined": StrictUndefined, "finalize": shown, "trim_blocks": True, "lstrip_blocks": True,
    }  # fmt: skip


class _Assets:
    """The style sheet, the script and the icon, by names that change with their content."""

    def __init__(self) -> None:
        self.files = {name: (_HERE / "static" / name).read_bytes() for name in _ASSET_TYPES}

    def url(self, name: str) -> str:
        return f"{HOME}static/{name}?v={sha256(self.files[name]).hexdigest()[:12]}"


def _doorway(services: ConsoleServices, door: Door, assets: _Assets) -> Blueprint:
    routes = Blueprint("console", __name__)

    @routes.get("/console")
    async def without_slash() -> ResponseReturnValue:
        return redirect(HOME, 308)

    @routes.get("/console/static/<name>")
    async def asset(name: str) -> ResponseReturnValue:
        if name not in assets.files:
            raise exceptions.NotFound
        headers = {"Cache-Control": "public, max-age=86400"}
        return Response(assets.files[name], content_type=f"{_ASSET_TYPES[name]}; charset=utf-8", headers=headers)

    @routes.get(SIGN_IN)
    async def sign_in_page() -> ResponseReturnValue:
        return await _sign_in_form(services, next_page=request.args.get("next", ""))

    @routes.post(SIGN_IN)
    async def sign_in() -> ResponseReturnValue:
        return await door.sign_in()

    @routes.post("/console/sign-out")
    async def sign_out() -> ResponseReturnValue:
        return await door.sign_out()

    return routes


async def _sign_in_form(services: ConsoleServices, *, next_page: str, problem: str = "") -> str:
    return await render_template(
        "sign_in.html", has_tokens=services.gate.has_tokens, next_page=safe_next(next_page), problem=problem
    )


def _handle_errors(app: Quart, services: ConsoleServices) -> None:
    async def page(status: int, reason: str, headers: dict[str, str] | None = None) -> ResponseReturnValue:
        title = _TITLES.get(status, "This did not work")
        return await render_template("error.html", status=status, title=title, reason=reason), status, headers or {}

    @app.errorhandler(NotAuthenticated)
    async def unknown(refusal: NotAuthenticated) -> ResponseReturnValue:
        is_page = request.method in {"GET", "HEAD"}
        wanted = request.full_path.rstrip("?") if is_page else (await request.form).get("next", "")
        problem = "" if isinstance(refusal, NobodyYet) else refusal.reason
        form = await _sign_in_form(services, next_page=wanted, problem=problem)
        answer = Response(form, 401, headers={"WWW-Authenticate": services.gate.challenge})
        if not g.get("has_session", False):
            drop_cookie(answer, SESSION)
        return answer

    @app.errorhandler(RequestRefused)
    async def refused(refusal: RequestRefused) -> ResponseReturnValue:
        if isinstance(refusal, PluginFailed):
            log.error("plugin failed", plugin=refusal.plugin, detail=refusal.detail)
        headers = {}
        if isinstance(refusal, LockedOut | Unavailable):
            headers["Retry-After"] = str(refusal.retry_after_seconds)
        return await page(status_of(refusal), refusal.reason, headers)

    _handle_other_errors(app, page)


def _handle_other_errors(app: Quart, page: Callable[..., Awaitable[ResponseReturnValue]]) -> None:
    @app.errorhandler(StoreUnavailable)
    async def store_away(_: StoreUnavailable) -> ResponseReturnValue:
        return await page(503, "the server's database is away; repeat this later", {"Retry-After": "30"})

    @app.errorhandler(exceptions.HTTPException)
    async def http_error(error: exceptions.HTTPException) -> ResponseReturnValue:
        headers = {}
        if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods:
            headers["Allow"] = ", ".join(sorted(error.valid_methods))
        reason = "there is no such page" if error.code == 404 else error.description or error.name
        return await page(error.code or 500, reason, headers)

    @app.errorhandler(Exception)
    async def internal_error(error: Exception) -> ResponseReturnValue:
        log.error("console request failed", path=request.path, exc_info=error)
        return await page(500, "the server could not process this; its log says more")


def _keep_cookies(answer: Response) -> None:
    if g.get("new_browser"):
        set_cookie(answer, BROWSER, g.new_browser)
    is_shown = answer.status_code < 300 or answer.status_code >= 400
    if is_shown and request.cookies.get(NOTICE):
        drop_cookie(answer, NOTICE)
