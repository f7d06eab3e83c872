"""What every table of ``kipuka.toml`` has in common, and what the file hands on to plugins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import ConfigDict, ValidationInfo, field_validator

from kipuka_core.hooks.provider import Settings


@dataclass(frozen=True, slots=True)
class NotYet:
    """Marks a key, or some values of it, whose feature is not built: it is refused, never accepted silently."""

    values: tuple[str, ...] = ()
    """The values refused; empty: every one but the default."""


class Section(Settings):
    """A table of the file: frozen, an unknown key is an error, a key without its feature is one too."""

    extra_tables: ClassVar[type[Section] | None] = None
    """What reads the tables in here that have a name of the operator's choice; None: there are none."""

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_what_is_not_built(cls, value: Any, info: ValidationInfo) -> Any:
        known = cls.model_fields[info.field_name or ""]
        for mark in known.metadata:
            if not isinstance(mark, NotYet):
                continue
            if value in mark.values:
                raise ValueError(f'"{value}" is not available yet')
            if not mark.values and value != known.get_default(call_default_factory=True, validated_data={}):
                raise ValueError("not available yet")
        return value


class OpenSection(Section):
    """A table that is partly the core's and partly a plugin's; the plugin's part is checked by its own settings."""

    model_config = ConfigDict(extra="allow")

    @property
    def settings(self) -> dict[str, Any]:
        """The plugin's part, as it stands in the file."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Only the core's part: what belongs to a plugin may be a secret."""
        return [(name, getattr(self, name)) for name in type(self).model_fields]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginTable:
    """What the file says to one provider."""

    name: str
    """What this instance is called: the CA's id, the word in ``order``."""
    use: str
    """The provider's name."""
    settings: Mapping[str, Any] = field(repr=False)
    """For the provider's settings model."""
    toml_path: str
    """Where errors point to: ``auth.otp``, ``ca[0]``."""
