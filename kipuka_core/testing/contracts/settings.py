"""What every plugin's settings have to be."""
# ruff: noqa: S101 - a contract suite is made of assertions

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from kipuka_core.hooks.soundness import settings_problem

_TOML_VALUES: tuple[Any, ...] = (
    "",
    "\0",
    -1,
    2**63,
    1.5,
    True,
    [],
    [1],
    {},
    {"a": 1},
    datetime(2030, 1, 1, tzinfo=UTC),
)
"""One of each kind, and what a person would not write."""


def check_settings(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Assert that a settings model is what the core and the person who writes ``kipuka.toml`` rely on.

    The values are accepted; it is frozen; an unknown key is refused; every key has a description and a type; a wrong
    value is a ValidationError that names its key, whatever the value.
    """
    problem = settings_problem(model)
    assert problem is None, f"the settings are {problem}"
    model(**values)
    refused = _refusal(model, {**values, "no_such_key_at_all": 1})
    assert refused is not None, f"{model.__name__} takes an unknown key: a typo in kipuka.toml would go unseen"
    for key, field in model.model_fields.items():
        assert field.description, f"{key} has no description: Field(description=…) is its line on the reference page"
        name = field.alias or key
        refusals = [_refusal(model, {**values, name: value}) for value in _TOML_VALUES]
        assert any(refusals), f"{key} takes anything: give it a type, so that a wrong value stops the start"


def _refusal(model: type[BaseModel], values: Mapping[str, Any]) -> ValidationError | None:
    try:
        model(**values)
    except ValidationError as error:
        return error
    except Exception as error:
        raise AssertionError(
            f"{model.__name__} raised {type(error).__name__} for {dict(values)!r}: a validator raises ValueError, which"
            " becomes the line that the operator reads"
        ) from error
    return None
