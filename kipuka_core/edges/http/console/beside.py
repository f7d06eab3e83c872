"""Two applications on one listener, by path."""

from __future__ import annotations

from typing import Any

from kipuka_core.edges.http.messages import Receive, Scope, Send

ROOT = "/console"


class WithConsole:
    """The admin API, and the console under ``/console/``: each with its own errors, the one JSON, the other HTML."""

    def __init__(self, api: Any, console: Any) -> None:
        self._api = api
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope.get("path", "")
        is_console = path == ROOT or path.startswith(f"{ROOT}/")
        await (self._console if is_console else self._api)(scope, receive, send)
