"""One-time passwords: made one by one or many at once and shown once, listed, withdrawn."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, g, render_template, request, url_for
from quart.typing import ResponseReturnValue

from kipuka_core.domain.admin.passwords import BATCH_AT_MOST, OtpMade, OtpWanted
from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.admin_otp import CSV, made_body, make_csv, otp_body, write_csv
from kipuka_core.edges.http.console.asking import GENERAL, FormErrors, errors_of, given, read, sent
from kipuka_core.edges.http.console.certificates import DOOR_WITHOUT_LABEL
from kipuka_core.edges.http.console.notices import done
from kipuka_core.edges.http.console.paging import ListPage, next_url
from kipuka_core.edges.http.console.services import ConsoleServices
from kipuka_core.errors import InvalidInput, Malformed
from kipuka_core.hooks.durations import format_duration, parse_duration
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.search import BadCursor, PageWanted

_WANTED = ("entity_id", "ttl", "max_usage", "label", "subject_pattern")
_SHOWN_AT_MOST = 500
"""How many new passwords a page shows; of more there is a file."""


def pages(services: ConsoleServices) -> Blueprint:
    """The pages."""
    routes = Blueprint("console_passwords", __name__, url_prefix="/console/passwords")

    @routes.get("")
    async def entries() -> ResponseReturnValue:
        return await _page(services)

    @routes.post("")
    async def create() -> ResponseReturnValue:
        return await _create(services)

    @routes.get("/batch")
    async def batch_form() -> ResponseReturnValue:
        return await _batch_page()

    @routes.post("/batch")
    async def batch() -> ResponseReturnValue:
        return await _create_batch(services)

    @routes.post("/<otp_id>/withdraw")
    async def withdraw(otp_id: str) -> ResponseReturnValue:
        await services.administration.otps.revoke(g.administrator, otp_id)
        return done("withdrawn", url_for(".entries"))

    return routes


async def _page(
    services: ConsoleServices, errors: dict[str, str] | None = None, values: dict[str, str] | None = None
) -> ResponseReturnValue:
    otps, listed = services.administration.otps, await _list(services)
    shown = await render_template(
        "passwords.html",
        listed=listed,
        asked=given("entity_id", "all"),
        errors=errors or listed.errors,
        values=values or {},
        defaults=otps.defaults,
        default_ttl=format_duration(otps.defaults.ttl_seconds),
        labels=sorted(set(otps.labels) - {""}),
        no_label=DOOR_WITHOUT_LABEL,
        now=services.clock(),
    )
    if errors:
        return shown, 422
    return shown, 400 if listed.errors else 200


async def _create(services: ConsoleServices) -> ResponseReturnValue:
    values = await sent(*_WANTED)
    try:
        made = await services.administration.otps.create(g.administrator, [_wanted(values)])
    except FormErrors as wrong:
        return await _page(services, wrong.errors, values)
    except InvalidInput as refusal:
        return await _page(services, errors_of(refusal, dict.fromkeys(_WANTED)), values)
    return await _made(made), 201


async def _batch_page(errors: dict[str, str] | None = None, rows: str = "") -> ResponseReturnValue:
    shown = await render_template("batch.html", errors=errors or {}, rows=rows, most=BATCH_AT_MOST)
    return shown, 422 if errors else 200


async def _create_batch(services: ConsoleServices) -> ResponseReturnValue:
    form, file = await request.form, (await request.files).get("file")
    raw, rows = file.read() if file is not None else b"", form.get("rows", "").strip()
    if bool(raw) == bool(rows):
        return await _batch_page({"rows": "choose a file, or write the rows here: one of both"}, rows)
    try:
        otps = services.administration.otps
        made = await make_csv(otps, g.administrator, raw or rows.encode("utf-8", "surrogatepass"))
    except (InvalidInput, Malformed) as refusal:
        return await _batch_page({"rows": refusal.reason}, rows)
    if form.get("answer") == "file" or len(made) > _SHOWN_AT_MOST:
        headers = {"Content-Disposition": 'attachment; filename="one-time-passwords.csv"'}
        return Response(write_csv(made), 201, content_type=f"{CSV}; charset=utf-8; header=present", headers=headers)
    return await _made(made), 201


async def _list(services: ConsoleServices) -> ListPage:
    try:
        query = read(bodies.OtpQuery, {"limit": "50"} | given("entity_id", "all", "limit", "after"))
        page = await services.administration.otps.list(
            PageWanted(limit=query.limit, after=query.after), entity_id=query.entity_id, with_ended=query.all
        )
    except FormErrors as wrong:
        return ListPage(errors=wrong.errors)
    except BadCursor as wrong:
        return ListPage(errors={GENERAL: f"after: {wrong}"})
    rows = [otp_body(each) for each in page.items]
    return ListPage(rows, page.total_text, next_url(page), is_continued=query.after is not None)


def _wanted(values: dict[str, str]) -> OtpWanted:
    read_values: dict[str, Any] = {name: value for name, value in values.items() if name != "ttl"}
    errors = {}
    if "ttl" in values:
        try:
            ttl = values["ttl"]
            read_values["ttl_seconds"] = parse_duration(int(ttl) if ttl.isascii() and ttl.isdigit() else ttl)
        except ValueError as error:
            errors["ttl"] = str(error)
    if values.get("label") == DOOR_WITHOUT_LABEL:
        read_values["label"] = ""
    if problem := entity_id_problem(values.get("entity_id", "")):
        errors["entity_id"] = f"this cannot be sent as a user name: {problem}"
        read_values["entity_id"] = "?"  # so that the other fields are looked at
    try:
        wanted = read(bodies.OtpGenerate, read_values)
    except FormErrors as wrong:
        found = {("ttl" if name == "ttl_seconds" else name): text for name, text in wrong.errors.items()}
        raise FormErrors(found | errors) from None
    if errors:
        raise FormErrors(errors)
    return OtpWanted(**wanted.model_dump())


async def _made(made: list[OtpMade]) -> str:
    return await render_template("made.html", made=[made_body(each) for each in made])
