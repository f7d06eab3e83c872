"""What settings say about certificates: key usages, and object identifiers by name. For the core and for plugins.

Each type reads what a person writes and leaves what the code wants; its JSON form is again what a person writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from kipuka_core.model.key_usage import KEY_USAGES
from kipuka_core.model.oids import EXT_KEY_USAGES, EXTENSIONS, SUBJECT_ATTRIBUTES, dotted_oid, name_of, named_oid


def kind_of_json(kind: str, **schema: Any) -> WithJsonSchema:
    """A JSON schema whose ``x-kind`` is the word that the reference page shows as type."""
    return WithJsonSchema({"x-kind": kind, **schema})


def read_text(read: Callable[[str], object]) -> BeforeValidator:
    """A validator for values that are written as text."""

    def validate(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("must be text in quotes")  # noqa: TRY004  # pydantic turns only ValueError into an error line
        return read(value)

    return BeforeValidator(validate)


def _named(names: Mapping[str, str], kind: str) -> tuple[Any, ...]:
    shown = PlainSerializer(lambda oid: name_of(oid, names), when_used="json")
    return (read_text(lambda text: named_oid(text, names)), shown, kind_of_json(kind, type="string"))


def _key_usage(text: str) -> str:
    # X.509 renamed the bit that RFC 5280 4.2.1.3 calls nonRepudiation
    wanted = "contentcommitment" if text.lower() == "nonrepudiation" else text.lower()
    for name in KEY_USAGES:
        if name.lower() == wanted:
            return name
    raise ValueError(f'unknown key usage "{text}"; known are {", ".join(KEY_USAGES)}')


KeyUsageName = Annotated[str, read_text(_key_usage), kind_of_json("key usage", type="string")]
_EKU_READ, _EKU_SHOWN, _EKU_JSON = _named(EXT_KEY_USAGES, "extended key usage")
ExtKeyUsageOid = Annotated[str, _EKU_READ, _EKU_SHOWN, _EKU_JSON]
_EXTENSION_READ, _EXTENSION_SHOWN, _EXTENSION_JSON = _named(EXTENSIONS, "extension")
ExtensionOid = Annotated[str, _EXTENSION_READ, _EXTENSION_SHOWN, _EXTENSION_JSON]
_ATTRIBUTE_READ, _ATTRIBUTE_SHOWN, _ATTRIBUTE_JSON = _named(SUBJECT_ATTRIBUTES, "subject attribute")
SubjectAttributeOid = Annotated[str, _ATTRIBUTE_READ, _ATTRIBUTE_SHOWN, _ATTRIBUTE_JSON]
Oid = Annotated[str, read_text(dotted_oid), kind_of_json("OID", type="string")]
