"""The audit trail, searched."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, render_template
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.console.asking import GENERAL, FormErrors, as_moment, given, read
from kipuka_core.edges.http.console.paging import ListPage, next_url
from kipuka_core.edges.http.console.services import ConsoleServices
from kipuka_core.model.event import Event
from kipuka_core.model.search import BadCursor, EventQuery, PageWanted

_FILTERS = ("event", "actor", "target", "since", "until")
_IN_COLUMNS = frozenset({"event", "time", "actor", "reason"})


def pages(services: ConsoleServices) -> Blueprint:
    """The page."""
    routes = Blueprint("console_audit", __name__, url_prefix="/console/audit")

    @routes.get("")
    async def search() -> ResponseReturnValue:
        asked = given(*_FILTERS, "limit", "after")
        values: dict[str, Any] = dict(asked)
        for name in ("since", "until"):
            if name in values:
                values[name] = as_moment(values[name])
        try:
            query = read(bodies.AuditQuery, values)
            page = await services.administration.audit(
                EventQuery(**{name: getattr(query, name) for name in _FILTERS}),
                PageWanted(limit=query.limit, after=query.after),
            )
            rows = [(fact, _others(fact)) for fact in page.items]
            listed = ListPage(rows, str(page.total), next_url(page), is_continued=query.after is not None)
        except FormErrors as wrong:
            listed = ListPage(errors=wrong.errors)
        except BadCursor as wrong:
            listed = ListPage(errors={GENERAL: f"after: {wrong}"})
        shown = await render_template("audit.html", listed=listed, asked=asked, events=_event_names())
        return shown, 400 if listed.errors else 200

    return routes


def _others(fact: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fact.items() if name not in _IN_COLUMNS}


def _event_names() -> list[str]:
    return sorted({kind.name for kind in Event.__subclasses__()})
