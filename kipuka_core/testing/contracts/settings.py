"""What every plugin's settings have to be."""
# ruff: noqa: S101 - a contract suite is made of assertions

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError


def check_settings(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Assert that the values are accepted, that an unknown key is not, and that every key has a description."""
    model(**values)
    with pytest.raises(ValidationError):
        model(**values, no_such_key_at_all=1)
    for key, field in model.model_fields.items():
        assert field.description, f"{key} has no description"
