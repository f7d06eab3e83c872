"""``/admin/openapi.json``: the OpenAPI 3.1 document, made of the operations and their models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.admin_api import JSON, Answer, Api, Call, Operation
from kipuka_core.edges.http.admin_cas import PEM_CHAIN

_REFERENCE = "#/components/schemas/{model}"
_PATH_PART = re.compile(r"<(\w+)>")
_ABOUT = "Names, statuses and errors are a contract. Every error is `{error, message}`: a stable word, and a sentence."
_OF_ALL = (400, 401, 403, 429, 503)

_OPENAPI = Operation(
    method="GET",
    path="/admin/openapi.json",
    summary="This document",
    about="OpenAPI 3.1.",
    answers={200: Answer(about="It.", model=dict[str, Any])},
)


def _page(path: str, summary: str, model: Any, *, unhealthy: bool = False, **more: Any) -> Operation:
    answers = {200: Answer(about="It.", model=model)}
    if unhealthy:
        answers[503] = Answer(about="It does not work.", model=model)
    return Operation(method="GET", path=path, summary=summary, about="", answers=answers, **more)


_PART = dict[str, Any]
PAGES: tuple[Operation, ...] = (
    _page("/admin/health", "The health of everything", bodies.Health, unhealthy=True),
    _page("/admin/health/db", "The health of the database", _PART, unhealthy=True),
    _page("/admin/health/ca", "The health of the CAs", _PART, unhealthy=True),
    _page("/admin/health/hsm", "The health of the tokens", _PART, unhealthy=True),
    _page("/admin/health/live", "Whether the process lives", _PART, is_open=True),
    _page("/admin/health/ready", "Whether everything works", _PART, unhealthy=True, is_open=True),
    _page("/admin/cas", "List the CAs", list[bodies.Ca]),
    _page("/admin/cas/<ca_id>", "Show a CA", bodies.Ca, refusals=(404,)),
    _page("/admin/cas/<ca_id>/health", "The health of a CA", _PART, unhealthy=True, refusals=(404,)),
    Operation(
        method="GET",
        path="/admin/cas/<ca_id>/chain",
        summary="The certificates of a CA",
        about="The issuing one first.",
        answers={200: Answer(about="PEM.", media_types=(PEM_CHAIN,))},
        refusals=(404,),
    ),
    Operation(
        method="GET",
        path="/admin/cas/<ca_id>/crl",
        summary="The CRL of a CA",
        about="",
        answers={200: Answer(about="DER.", media_types=("application/pkix-crl",))},
        refusals=(404,),
    ),
    _page("/admin/plugins", "List plugins", list[bodies.Plugin]),
)
"""The routes that read nothing but their path, described beside their code."""


def openapi_routes(parts: Sequence[object], version: str) -> Api:
    """The operation that serves the document about the operations of ``parts``."""
    api = Api("kipuka_openapi", __name__)
    described = [*PAGES, *(each for part in parts if isinstance(part, Api) for each in part.operations), _OPENAPI]

    @cache
    def document() -> dict[str, Any]:
        return openapi(described, version)

    @api.operation(_OPENAPI)
    async def serve(_call: Call) -> ResponseReturnValue:
        return document()

    return api


def openapi(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The document as JSON has it."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = _PATH_PART.sub(r"{\1}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "kipuka admin API", "version": version, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS", "description": "A certificate that [admin.client_auth] admits."},
            },
        },
    }


class _Schemas:
    """Collects what the models refer to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, model: Any) -> dict[str, Any]:
        schema = TypeAdapter(model).json_schema(ref_template=_REFERENCE)
        self.found |= schema.pop("$defs", {})
        if isinstance(model, type) and issubclass(model, BaseModel):
            self.found[model.__name__] = schema
            return {"$ref": _REFERENCE.format(model=model.__name__)}
        return schema


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, schemas)],
        "responses": {str(status): _response(each, schemas) for status, each in sorted(_answers(operation).items())},
        "security": [] if operation.is_open else [{"bearer": []}, {"certificate": []}],
    }
    if operation.about:
        described["description"] = operation.about
    if operation.body is not None:
        content: dict[str, Any] = {JSON: {"schema": schemas.of(operation.body)}}
        content |= {each: {"schema": {"type": "string"}} for each in operation.body_media_types}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _operation_id(operation: Operation) -> str:
    words = re.sub(r"\W+", "_", operation.path.removeprefix("/admin/")).strip("_")
    return f"{operation.method.lower()}_{words}"


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 200}}
        for name in _PATH_PART.findall(operation.path)
    ]


def _query_parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema(ref_template=_REFERENCE)
    schemas.found |= schema.pop("$defs", {})
    required = set(schema.get("required", ()))
    return [_parameter(name, each, name in required) for name, each in schema["properties"].items()]


def _parameter(name: str, schema: Mapping[str, Any], is_required: bool) -> dict[str, Any]:
    shown = {key: value for key, value in schema.items() if key not in {"description", "title"}}
    # A query has no null: what may be absent is not required.
    kinds = [each for each in shown.pop("anyOf", ()) if each != {"type": "null"}]
    if shown.get("default", "") is None:
        del shown["default"]
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": is_required}
    parameter["schema"] = shown | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})
    if "description" in schema:
        parameter["description"] = schema["description"]
    return parameter


def _answers(operation: Operation) -> dict[int, Answer]:
    refusals: set[int] = set() if operation.is_open else {*_OF_ALL, *operation.refusals}
    if operation.body is not None:
        refusals |= {408, 413, 415, 422}
    refused = {status: Answer(about=HTTPStatus(status).phrase, model=bodies.ErrorBody) for status in sorted(refusals)}
    if 401 in refused:
        refused[401] = Answer(
            about="Unauthorized", model=bodies.ErrorBody, headers={"WWW-Authenticate": "What would be a credential."}
        )
    both = set(refused) & set(operation.answers)
    answers = refused | dict(operation.answers)
    for status in both:
        answers[status] = Answer(
            about=operation.answers[status].about, model=operation.answers[status].model | bodies.ErrorBody
        )
    return answers


def _response(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.about}
    content: dict[str, Any] = {}
    if answer.model is not None:
        content[JSON] = {"schema": schemas.of(answer.model)}
    content |= {each: {"schema": {"type": "string"}} for each in answer.media_types}
    if content:
        described["content"] = content
    if answer.headers:
        described["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()
        }
    return described
