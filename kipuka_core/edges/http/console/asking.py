"""Reading forms and searches, and saying at which field something is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from quart import request

from kipuka_core.errors import Malformed, RequestRefused

ModelT = TypeVar("ModelT", bound=BaseModel)

GENERAL = ""
"""The field of what is wrong with the whole form."""
_FIELD_FIRST = re.compile(r"([a-z_]+): (.+)", re.DOTALL)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?", re.ASCII)


_SAID = {
    "string_pattern_mismatch": "has a character that is not possible here, or too many",
    "literal_error": "choose one of the list",
    "enum": "choose one of the list",
}
"""Of the checks whose own words are for programmers."""


class FormErrors(Exception):
    """What a person has to correct, by field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("a form with mistakes")
        self.errors = dict(errors)


def read(model: type[ModelT], values: Mapping[str, Any]) -> ModelT:
    """Values as the admin API reads them. Raises FormErrors."""
    try:
        return model.model_validate(dict(values), strict=False)
    except ValidationError as error:
        found: dict[str, str] = {}
        for each in error.errors(include_input=False, include_url=False, include_context=False):
            said = _SAID.get(each["type"]) or each["msg"].removeprefix("Value error, ")
            found.setdefault(str(each["loc"][0]) if each["loc"] else GENERAL, said)
        raise FormErrors(found) from None


def errors_of(refusal: RequestRefused, fields: Mapping[str, Any]) -> dict[str, str]:
    """A refusal of the domain, at the field that it begins with."""
    match = _FIELD_FIRST.fullmatch(refusal.reason)
    return {match[1]: match[2]} if match and match[1] in fields else {GENERAL: refusal.reason}


def given(*names: str) -> dict[str, str]:
    """What the query has under these names, and is not empty."""
    return {name: value for name in names if (value := request.args.get(name, "").strip())}


async def sent(*names: str) -> dict[str, str]:
    """What the form has under these names, and is not empty."""
    form = await request.form
    return {name: value for name in names if (value := form.get(name, "").strip())}


def as_moment(text: str) -> str:
    """A day, or a day with its time, as a moment (RFC 3339) in UTC; what is neither stays as it is."""
    if _DAY.fullmatch(text):
        return f"{text}T00:00:00Z"
    if _MINUTE.fullmatch(text):
        return f"{text}Z"
    return text


def check_path(values: Mapping[str, str]) -> None:
    """Raises Malformed for a part of the path that no record can have."""
    if any("\0" in part or len(part) > 200 for part in values.values()):
        raise Malformed("a part of the path is not possible", code="invalid_path")
