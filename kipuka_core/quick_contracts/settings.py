"""Whether a settings model is one that an operator can be left alone with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr

from kipuka_core.config.failures import models_in
from kipuka_core.config.sections.plugins import AuditSink, Ca, ProviderTable
from kipuka_core.quick_contracts.finding import Finding

_BASE = "derive it from kipuka_core.Settings, and set neither frozen nor extra"
_SECRET_NAME = re.compile(r"(^|_)(password|passphrase|secret|token|pin|api_?key|private_?key)s?$")
"""A key that ends so holds the secret itself; ``pin_file``, ``token_env`` and ``token_bits`` do not."""
_GIVEN_BY_THE_CORE = {"ca_backend": "id"}
_TAKEN_BY_THE_CORE = {
    "authenticator": frozenset(ProviderTable.model_fields),
    "policy": frozenset(ProviderTable.model_fields),
    "ca_backend": frozenset(Ca.model_fields) - {"id"},
    "event_sink": frozenset(AuditSink.model_fields),
}


def check_settings_model(kind: str, model: object) -> Iterator[Finding]:
    """What is wrong with the settings model of a provider of this kind, or that nothing is."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        yield Finding.problem("its settings are no pydantic model", "give Provider a class derived from Settings")
        return
    problems = [
        *_of_the_core(kind, model),
        *(problem for each in _with_those_below(model) for problem in _of_one(each)),
    ]
    yield from problems
    if not problems:
        count = len(model.model_fields)
        yield Finding.ok(f"settings: frozen, no unknown keys, {count} key{'' if count == 1 else 's'} described")


def _with_those_below(model: type[BaseModel]) -> list[type[BaseModel]]:
    found = [model]
    for each in found:
        below = {inner for field in each.model_fields.values() for inner in models_in(field.annotation)}
        found += sorted(below - set(found), key=lambda inner: inner.__name__)
    return found


def _of_the_core(kind: str, model: type[BaseModel]) -> Iterator[Finding]:
    given = _GIVEN_BY_THE_CORE.get(kind)
    if given is not None and given not in model.model_fields:
        yield Finding.problem(
            f"{model.__name__} has no key {given}, which the server passes to every {kind.replace('_', ' ')}",
            f'add {given}: str | None = Field(default=None, description="…")',
        )
    for key in sorted(_TAKEN_BY_THE_CORE.get(kind, frozenset()) & set(model.model_fields)):
        yield Finding.problem(
            f"{model.__name__} has a key {key}, which the server takes for itself: it never arrives", f"rename {key}"
        )


def _of_one(model: type[BaseModel]) -> Iterator[Finding]:
    if not model.model_config.get("frozen"):
        yield Finding.problem(f"{model.__name__} can be changed after it was read", _BASE)
    if model.model_config.get("extra") != "forbid":
        yield Finding.problem(f"{model.__name__} takes keys that it does not know: a misspelt one has no effect", _BASE)
    for key, field in model.model_fields.items():
        if not field.description:
            yield Finding.problem(f"{model.__name__}.{key} has no description", f'{key}: … = Field(…, description="…")')
        if _SECRET_NAME.search(key) and _holds_plain_text(field.annotation) and field.repr:
            yield Finding.problem(
                f"{model.__name__}.{key} is shown wherever the settings are: its name says that it is a secret",
                f"make it a pydantic.SecretStr, or better have {key}_file and {key}_env that say where it is",
            )


def _holds_plain_text(annotation: Any) -> bool:
    if annotation in {str, bytes}:
        return True
    if annotation in {SecretStr, SecretBytes}:
        return False
    return any(_holds_plain_text(argument) for argument in get_args(annotation) if not isinstance(argument, str))
