"""What is wrong with a configuration, said for the person who edits the file: one line each, with its TOML path.

No line repeats a value that could be a secret: pydantic's own messages, which carry the input, are translated.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kipuka_core.errors import ConfigurationError

_TABLE_EXPECTED = {"dict_type", "model_type", "model_attributes_type", "dataclass_type", "mapping_type"}
_PROBLEMS = {
    "missing": "required",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match {pattern}",
} | dict.fromkeys(_TABLE_EXPECTED, "must be a table")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class ConfigurationErrors(ConfigurationError):
    """Several things are wrong at once; the text has a line for each, and ``errors`` has each by itself."""

    def __init__(self, errors: Sequence[ConfigurationError]) -> None:
        super().__init__("", "\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


def raise_if_any(errors: Iterable[ConfigurationError]) -> None:
    """Raise what there is: the only error, or all of them as :class:`ConfigurationErrors`."""
    found = list(errors)
    if len(found) == 1:
        raise found[0]
    if found:
        raise ConfigurationErrors(found)


def explain(
    failure: ValidationError,
    model: type[BaseModel],
    table: Mapping[str, Any],
    toml_path: str = "",
    other_keys: Collection[str] = (),
) -> list[ConfigurationError]:
    """What pydantic found, as lines for the person who edits the file.

    ``other_keys`` are known in this table besides the model's fields (``use``), and so are good to suggest.
    """
    details = failure.errors(include_url=False, include_input=False)
    places = [detail["loc"] for detail in details]
    return [
        _explain_one(detail, model, table, toml_path, other_keys)
        for detail in details
        # A list whose only entry is wrong is not too short as well.
        if not (detail["type"] == "too_short" and any(_is_inside(place, detail["loc"]) for place in places))
    ]


def _is_inside(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _explain_one(
    detail: ErrorDetails, model: type[BaseModel], table: Mapping[str, Any], toml_path: str, other_keys: Collection[str]
) -> ConfigurationError:
    keys = [part for part in detail["loc"] if part != "[key]"]
    where = _toml_path(toml_path, keys, table)
    parent = _model_at(model, keys[:-1])
    if parent is not None and keys and _is_unknown_key(detail["type"], str(keys[-1]), parent):
        known = [*parent.model_fields, *(other_keys if len(keys) == 1 else ())]
        return ConfigurationError(where, unknown_key(str(keys[-1]), known))
    return ConfigurationError(where, _problem(detail))


def _is_unknown_key(error_type: str, key: str, parent: type[BaseModel]) -> bool:
    # [auth] and [policy] take further keys, but as tables: anything else there is a misspelt key of their own.
    return error_type == "extra_forbidden" or (error_type in _TABLE_EXPECTED and key not in parent.model_fields)


def unknown_key(key: str, known: Collection[str]) -> str:
    """The problem with a key that nobody knows, and the nearest one that is known."""
    nearest = difflib.get_close_matches(key, known, n=1)
    if nearest:
        return f'unknown key; did you mean "{nearest[0]}"?'
    return f"unknown key; known here: {', '.join(known)}" if known else "unknown key; this table takes none"


def _problem(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "value_error" | "assertion_error":
            return str(context.get("error", detail["msg"]))
        case "literal_error" | "enum":
            return "must be " + str(context["expected"]).replace("'", '"')
        case "too_short" if context["min_length"] == 1:
            return "must not be empty"
        case kind if kind in _PROBLEMS:
            return _PROBLEMS[kind].format(**context)
        case _:
            return detail["msg"].removeprefix("Input ")


def _toml_path(prefix: str, keys: Sequence[int | str], table: Mapping[str, Any]) -> str:
    """The path as TOML writes it, without what pydantic adds (names of a union's members)."""
    path = prefix
    node: Any = table
    for key in keys:
        if isinstance(key, int):
            if isinstance(node, list):
                path += f"[{key}]"
                node = node[key] if key < len(node) else None
        elif isinstance(node, Mapping):
            text = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
            path = f"{path}.{text}" if path else text
            node = node.get(key, {})
    return path


def _model_at(model: type[BaseModel], keys: Sequence[int | str]) -> type[BaseModel] | None:
    """The model that reads the table at ``keys``, or None where a plain dict does."""
    current: type[BaseModel] | None = model
    for key in keys:
        if isinstance(key, int) or current is None:
            continue
        field = current.model_fields.get(key)
        current = getattr(current, "extra_tables", None) if field is None else next(models_in(field.annotation), None)
    return current


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside a type, through Optional, tuple, Annotated and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)
