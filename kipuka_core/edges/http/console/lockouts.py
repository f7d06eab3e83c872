"""Lockouts: who gets 429 now, and letting somebody in again."""

from __future__ import annotations

from quart import Blueprint, g, render_template, request, url_for
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http.admin_people import lockout_body
from kipuka_core.edges.http.console.notices import done
from kipuka_core.edges.http.console.services import ConsoleServices


def pages(services: ConsoleServices) -> Blueprint:
    """The page."""
    routes = Blueprint("console_lockouts", __name__, url_prefix="/console/lockouts")
    lockouts = services.administration.lockouts

    @routes.get("")
    async def entries() -> ResponseReturnValue:
        return await render_template("lockouts.html", lockouts=[lockout_body(each) for each in await lockouts.list()])

    @routes.post("/lift")
    async def lift() -> ResponseReturnValue:
        form = await request.form  # as it was sent: an entity id may begin with a space
        await lockouts.lift(g.administrator, form.get("address", ""), form.get("entity_id") or None)
        return done("lifted", url_for(".entries"))

    return routes
