"""One-time passwords on the admin API."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from quart import Response, request
from quart.typing import ResponseReturnValue

from kipuka_core.domain.admin.passwords import BATCH_AT_MOST, OtpAdministration, OtpMade, OtpWanted
from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.admin_api import JSON, Answer, Api, Call, Operation, answer, no_content, problems
from kipuka_core.edges.http.admin_paging import found, page_answer, page_wanted, paged
from kipuka_core.errors import InvalidInput, Malformed
from kipuka_core.model.administrator import Administrator
from kipuka_core.model.record import OneTimePassword

CSV = "text/csv"
_WANTED = tuple(bodies.OtpGenerate.model_fields)
_MADE = tuple(bodies.OtpMade.model_fields)
FIRST_ROW = 2
"""Where the entries of a CSV file begin, as a person counts: the columns are in row 1."""

_GENERATE = Operation(
    method="POST",
    path="/admin/otp/generate",
    summary="Make a one-time password",
    about="The only time that the token is shown.",
    body=bodies.OtpGenerate,
    answers={201: Answer(about="Made.", model=bodies.OtpMade)},
)
_BATCH = Operation(
    method="POST",
    path="/admin/otp/batch",
    summary="Make many one-time passwords, all or none",
    about="A JSON array, or CSV whose first row names the members; the answer is CSV when `Accept` asks for it."
    " The only time that the tokens are shown.",
    body=bodies.OtpBatch,
    body_media_types=(CSV,),
    answers={201: Answer(about="Made, in the same order.", model=list[bodies.OtpMade], media_types=(CSV,))},
)
_LIST = Operation(
    method="GET",
    path="/admin/otp",
    summary="List one-time passwords, newest first",
    about="Those that can still be used; with `all=1` also those that are used up, expired or withdrawn.",
    query=bodies.OtpQuery,
    answers={200: paged("Without tokens.", bodies.Otp)},
)
_REVOKE = Operation(
    method="DELETE",
    path="/admin/otp/<otp_id>",
    summary="Withdraw a one-time password",
    about="What waits with it is given up too. Nothing changes when it is withdrawn already.",
    answers={204: Answer(about="Withdrawn.")},
    refusals=(404,),
)
_CLEANUP = Operation(
    method="POST",
    path="/admin/otp/cleanup",
    summary="Remove records of one-time passwords that have ended",
    about="The audit trail keeps what was told of them, and certificates keep the ids of theirs.",
    body=bodies.OtpCleanup,
    answers={200: Answer(about="How many.", model=bodies.Removed)},
)


def otp_routes(otps: OtpAdministration) -> Api:
    """The operations."""
    api = Api("kipuka_otp", __name__)

    @api.operation(_GENERATE)
    async def generate(call: Call) -> ResponseReturnValue:
        (made,) = await otps.create(call.administrator, [OtpWanted(**call.body.model_dump())])
        return answer(bodies.OtpMade, made_body(made), 201)

    @api.operation(_BATCH)
    async def batch(call: Call) -> ResponseReturnValue:
        if call.media_type == JSON:
            made = await otps.create(call.administrator, [OtpWanted(**each.model_dump()) for each in call.body])
        else:
            made = await make_csv(otps, call.administrator, call.body)
        wanted = request.accept_mimetypes.best_match([JSON, CSV], default=JSON)
        if wanted == CSV:
            return Response(write_csv(made), status=201, content_type=f"{CSV}; charset=utf-8; header=present")
        return answer(list[bodies.OtpMade], [made_body(each) for each in made], 201)

    @api.operation(_LIST)
    async def entries(call: Call) -> ResponseReturnValue:
        query = call.query
        page = await found(otps.list(page_wanted(query), entity_id=query.entity_id, with_ended=query.all))
        return page_answer(bodies.Otp, page, otp_body)

    @api.operation(_REVOKE)
    async def revoke(call: Call, otp_id: str) -> ResponseReturnValue:
        await otps.revoke(call.administrator, otp_id)
        return no_content()

    @api.operation(_CLEANUP)
    async def cleanup(call: Call) -> ResponseReturnValue:
        removed = await otps.remove_ended(call.administrator, call.body.ended_before)
        return answer(bodies.Removed, bodies.Removed(removed=removed))

    return api


def otp_body(record: OneTimePassword) -> bodies.Otp:
    """A one-time password as JSON."""
    return bodies.Otp(**{name: getattr(record, name) for name in bodies.Otp.model_fields})


def made_body(made: OtpMade) -> bodies.OtpMade:
    """One that was just made, with its token."""
    values: dict[str, Any] = {name: getattr(made.record, name) for name in _MADE if name != "token"}
    return bodies.OtpMade(**values, token=made.token)


async def make_csv(otps: OtpAdministration, administrator: Administrator, raw: bytes) -> list[OtpMade]:
    """Make what the rows of a CSV file (RFC 4180, UTF-8) want; an empty cell is as if absent.

    Raises Malformed for what is no CSV, InvalidInput naming row and column for what does not fit, and what
    :meth:`OtpAdministration.create` raises.
    """
    wanted = [OtpWanted(**each.model_dump()) for each in read_csv(raw)]
    return await otps.create(administrator, wanted, place=lambda index: f"row {index + FIRST_ROW}: ")


def read_csv(raw: bytes) -> list[bodies.OtpGenerate]:
    """The rows alone, with the errors that :func:`make_csv` has of them."""
    try:
        table = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        rows, columns = list(table), table.fieldnames or ()
    except (UnicodeDecodeError, csv.Error):
        raise Malformed("this is not CSV in UTF-8", code="malformed_csv") from None
    known = ", ".join(_WANTED)
    if not rows or "entity_id" not in columns:
        raise InvalidInput(
            f"the first row has to name the columns ({known}), with commas between them, and one entry has to follow"
        )
    if unknown := [name for name in columns if name not in _WANTED]:
        raise InvalidInput(f"row 1: no column is called {unknown[0]!r}; known are {known}")
    if len(rows) > BATCH_AT_MOST:
        raise InvalidInput(f"at most {BATCH_AT_MOST} one-time passwords can be made at once")
    return [_entry(number, row) for number, row in enumerate(rows, start=FIRST_ROW)]


def _entry(number: int, row: dict[str | Any, Any]) -> bodies.OtpGenerate:
    if None in row:
        raise InvalidInput(f"row {number}: has more cells than the first row has names")
    try:
        return bodies.OtpGenerate.model_validate({name: cell for name, cell in row.items() if cell}, strict=False)
    except ValidationError as error:
        raise InvalidInput(problems(error, f"row {number}: ")) from None


def write_csv(made: Sequence[OtpMade]) -> str:
    """What was made, one row each, in the columns of the JSON."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, _MADE)
    table.writeheader()
    for each in made:
        table.writerow(made_body(each).model_dump(mode="json"))
    return text.getvalue()
