"""The admin listener's application: Quart, JSON throughout."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from quart import Blueprint, Quart, request
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from kipuka_core.edges.log import get_logger
from kipuka_core.errors import ConfigurationError

log = get_logger()

OPEN_PATHS = frozenset({"/admin/health/live", "/admin/health/ready"})
_CHECKED_AT_MOST_EVERY_SECONDS = 1.0
_MAX_BODY_BYTES = 1 << 20
_BODY_TIMEOUT_SECONDS = 30


class Readiness:
    """Whether everything behind the server works; asked at most once a second, however often it is polled."""

    def __init__(self, ping: Callable[[], Awaitable[dict[str, str]]]) -> None:
        self._ping = ping
        self._problems: dict[str, str] = {}
        self._checked_at = float("-inf")

    async def problems(self) -> dict[str, str]:
        """What does not work, by name."""
        if time.monotonic() - self._checked_at >= _CHECKED_AT_MOST_EVERY_SECONDS:
            self._checked_at = time.monotonic()
            self._problems = await self._ping()
            for name, problem in self._problems.items():
                log.warning("not ready", part=name, problem=problem)
        return self._problems


def admin_app(ping: Callable[[], Awaitable[dict[str, str]]], blueprints: Sequence[Blueprint] = ()) -> Quart:
    """The application; ``blueprints`` are what plugins bring (hook ``kipuka_admin_routes``).

    Raises ConfigurationError for a blueprint whose name or path is taken.
    """
    app = Quart("kipuka_core")
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = _BODY_TIMEOUT_SECONDS
    readiness = Readiness(ping)

    @app.before_request
    async def only_with_credential() -> ResponseReturnValue | None:
        if request.path in OPEN_PATHS:
            return None
        return _error(401, "unauthorized", "this needs an admin credential, and none is configured or was presented")

    @app.get("/admin/health/live")
    async def live() -> ResponseReturnValue:
        return {"status": "alive"}

    @app.get("/admin/health/ready")
    async def ready() -> ResponseReturnValue:
        problems = await readiness.problems()
        # Without a credential only the names of the parts: what is wrong with them is in the log.
        body = {"status": "not_ready" if problems else "ready", "failing": sorted(problems)}
        return body, 503 if problems else 200

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> ResponseReturnValue:
        return _error(error.code or 500, error.name.lower().replace(" ", "_"), error.description or error.name)

    @app.errorhandler(Exception)
    async def internal_error(error: Exception) -> ResponseReturnValue:
        log.error("admin request failed", path=request.path, exception=type(error).__name__)
        return _error(500, "internal_error", "the server could not process this request")

    for blueprint in blueprints:
        _register(app, blueprint)
    return app


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


def _error(status: int, code: str, message: str) -> ResponseReturnValue:
    return {"error": code, "message": message}, status
