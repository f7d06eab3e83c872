"""Routes of the admin API that say what they take and what they answer, so that both is checked and documented.

An operation names a pydantic model for its query, its body and each of its answers (:mod:`.admin_bodies`). What comes
in is read by them and by nothing else; what goes out is written by them; ``/admin/openapi.json`` is made of them
(:mod:`.admin_openapi`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from quart import Blueprint, Response, g, request
from quart.typing import ResponseReturnValue

from kipuka_core.errors import InvalidInput, Malformed, WrongMediaType
from kipuka_core.model.administrator import Administrator

JSON = "application/json"
_SHOWN_PROBLEMS = 3
_SAID = {"extra_forbidden": "this name is not known here", "missing": "required"}
_LONGEST_PATH = 200

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One way in which an operation answers."""

    about: str
    model: Any = None
    """What the JSON is; None: an answer without a body, or of other media types alone."""
    media_types: tuple[str, ...] = ()
    """Other media types in which the same can be had."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What further headers say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route with everything that the OpenAPI document says of it."""

    method: str
    path: str
    """As Quart writes it, with the prefix: ``/admin/otp/<otp_id>``."""
    summary: str
    about: str
    answers: Mapping[int, Answer]
    query: type[BaseModel] | None = None
    body: Any = None
    body_media_types: tuple[str, ...] = ()
    """Media types of bodies beside JSON; their text is handed over as it is."""
    refusals: tuple[int, ...] = ()
    """Statuses of refusals beside those that every operation has."""
    is_open: bool = False
    """Whether it needs no credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to an operation, read."""

    administrator: Administrator
    query: Any = None
    body: Any = None
    media_type: str = JSON
    """Of the body."""


Handler = Callable[..., Awaitable[ResponseReturnValue]]


class Api(Blueprint):
    """A blueprint whose routes are operations."""

    def __init__(self, name: str, import_name: str) -> None:
        super().__init__(name, import_name)
        self.operations: list[Operation] = []

    def operation(self, operation: Operation) -> Callable[[Handler], Handler]:
        """Register a handler, which gets a :class:`Call` and the parts of the path as keywords."""

        def register(handler: Handler) -> Handler:
            async def handle(**path: str) -> ResponseReturnValue:
                if any("\0" in part or len(part) > _LONGEST_PATH for part in path.values()):
                    raise Malformed("a part of the path is not possible", code="invalid_path")
                return await handler(await _read_call(operation), **path)

            self.add_url_rule(operation.path, handler.__name__, handle, methods=[operation.method])
            self.operations.append(operation)
            return handler

        return register


def answer(operation_model: Any, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` as JSON, through the model of the answer."""
    body = _adapter(operation_model).dump_json(value)
    return Response(body, status=status, content_type=JSON, headers=dict(headers or {}))


def no_content() -> Response:
    """204."""
    response = Response(b"", status=204)
    del response.headers["Content-Type"]
    return response


async def _read_call(operation: Operation) -> Call:
    query = None if operation.query is None else _read_query(operation.query)
    if operation.query is None and request.args:
        raise Malformed(f"{next(iter(request.args))}: there is no such parameter here", code="invalid_parameter")
    if operation.body is None:
        return Call(administrator=g.administrator, query=query)
    media_type = request.mimetype or JSON
    raw: bytes = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    if media_type in operation.body_media_types:
        return Call(administrator=g.administrator, query=query, body=raw, media_type=media_type)
    if media_type != JSON:
        known = " or ".join((JSON, *operation.body_media_types))
        raise WrongMediaType(f"the body has to be {known}; say so in Content-Type")
    return Call(administrator=g.administrator, query=query, body=read_json(operation.body, raw or b"{}"))


def _read_query(model: type[BaseModel]) -> Any:
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Malformed(f"{name}: is there {len(values)} times; once is possible", code="invalid_parameter")
    try:
        return model.model_validate(dict(request.args), strict=False)
    except ValidationError as error:
        raise Malformed(problems(error), code="invalid_parameter") from None


def read_json(model: Any, raw: bytes) -> Any:
    """A JSON body. Raises Malformed for what is no JSON, InvalidInput naming the field for what does not fit."""
    try:
        return _adapter(model).validate_json(raw, strict=True)
    except ValidationError as error:
        if any(each["type"] == "json_invalid" for each in error.errors(include_input=False, include_url=False)):
            raise Malformed("the body is not JSON", code="malformed_json") from None
        raise InvalidInput(problems(error)) from None


def problems(error: ValidationError, where: str = "") -> str:
    """What is wrong, each with its field; without what was sent."""
    found = []
    for each in error.errors(include_input=False, include_url=False, include_context=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in each["loc"]).lstrip(".")
        said = _SAID.get(each["type"], each["msg"])
        found.append(f"{where}{path}: {said}" if where or path else said)
    more = len(found) - _SHOWN_PROBLEMS
    return "; ".join(found[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)
