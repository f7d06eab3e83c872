"""Requests that wait for a person: listed, shown with what every policy says, approved, rejected."""

from __future__ import annotations

from quart import Blueprint, g, render_template, url_for
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.admin_people import request_details, request_facts
from kipuka_core.edges.http.console.asking import GENERAL, FormErrors, errors_of, given, read, sent
from kipuka_core.edges.http.console.notices import done
from kipuka_core.edges.http.console.paging import ListPage, next_url
from kipuka_core.edges.http.console.services import ConsoleServices
from kipuka_core.errors import Conflict, InvalidInput
from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.model.record import RequestState
from kipuka_core.model.search import BadCursor, PageWanted
from kipuka_core.model.verdict import Wait

_STATES = ("waiting", "issued", "refused", "intent", "all")


def pages(services: ConsoleServices) -> Blueprint:
    """The pages."""
    routes = Blueprint("console_requests", __name__, url_prefix="/console/requests")

    @routes.get("")
    async def entries() -> ResponseReturnValue:
        return await _list(services)

    @routes.get("/<request_id>")
    async def show(request_id: str) -> ResponseReturnValue:
        return await _page(services, request_id)

    @routes.post("/<request_id>/approve")
    async def approve(request_id: str) -> ResponseReturnValue:
        return await _approve(services, request_id)

    @routes.post("/<request_id>/reject")
    async def reject(request_id: str) -> ResponseReturnValue:
        return await _reject(services, request_id)

    return routes


async def _page(
    services: ConsoleServices, request_id: str, errors: dict[str, str] | None = None, reason: str | None = None
) -> str:
    requests = services.administration.requests
    stored = await requests.one(request_id)
    return await render_template(
        "request.html",
        request_shown=request_details(requests, stored, await requests.trace(stored)),
        is_waiting=stored.state is RequestState.WAITING,
        errors=errors or {},
        reason=bodies.Rejection().reason if reason is None else reason,
    )


async def _approve(services: ConsoleServices, request_id: str) -> ResponseReturnValue:
    try:
        issued = await services.administration.requests.approve(g.administrator, request_id)
    except Conflict as refusal:
        return await _page(services, request_id, {GENERAL: refusal.reason}), 409
    if isinstance(issued, Wait):
        return done("asked", url_for(".show", request_id=request_id))
    return done("approved", url_for("console_certificates.show", serial=serial_hex(issued.certificate)))


async def _reject(services: ConsoleServices, request_id: str) -> ResponseReturnValue:
    reason = (await sent("reason")).get("reason", "")
    try:
        await services.administration.requests.reject(g.administrator, request_id, reason)
    except InvalidInput as refusal:
        return await _page(services, request_id, errors_of(refusal, {"reason": None}), reason), 422
    except Conflict as refusal:
        return await _page(services, request_id, {GENERAL: refusal.reason}), 409
    return done("rejected", url_for(".show", request_id=request_id))


async def _list(services: ConsoleServices) -> ResponseReturnValue:
    asked, requests = given("state", "limit", "after"), services.administration.requests
    try:
        query = read(bodies.RequestQuery, asked)
        state = None if query.state == "all" else RequestState(query.state)
        page = await requests.list(PageWanted(limit=query.limit, after=query.after), state=state)
        rows = [bodies.WaitingRequest(**request_facts(requests, each)) for each in page.items]
        listed = ListPage(rows, page.total_text, next_url(page), is_continued=query.after is not None)
    except FormErrors as wrong:
        listed = ListPage(errors=wrong.errors)
    except BadCursor as wrong:
        listed = ListPage(errors={GENERAL: f"after: {wrong}"})
    shown = await render_template("requests.html", listed=listed, asked=asked, states=_STATES)
    return shown, 400 if listed.errors else 200
