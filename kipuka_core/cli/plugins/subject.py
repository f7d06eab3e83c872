"""A plugin that is looked at, and where what is seen goes to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from pydantic import BaseModel

from kipuka_core.cli.plugins.configured import places_of
from kipuka_core.config import Config
from kipuka_core.hooks.listing import words_for
from kipuka_core.hooks.manager import BUILTIN, Plugins, ProviderEntry, load_plugins
from kipuka_core.quick_contracts import Finding


class Output(Protocol):
    """Where what is seen goes to."""

    def write(self, kind: str, value: Any) -> None:
        """Add a record."""
        ...

    def keep_secret(self, *secrets: str) -> None:
        """Never write these."""
        ...


@dataclass
class Subject:
    """One plugin, with the configuration that it is looked at with, if any."""

    name: str
    config: Config | None
    output: Output

    @cached_property
    def plugins(self) -> Plugins:
        """What it brings, beside the built-in ones. Raises ConfigurationError."""
        return load_plugins(() if self.name == BUILTIN else (self.name,))

    @property
    def entries(self) -> list[ProviderEntry]:
        """Its own providers."""
        return [entry for entry in self.plugins.entries if entry.plugin.name == self.name]

    @property
    def own_settings(self) -> type[BaseModel] | None:
        """The model of ``[plugin.NAME]``, where it has one."""
        return self.plugins.settings.get(self.name)

    @property
    def lacks_own_settings(self) -> bool:
        """Whether it cannot be enabled as things are, since nothing says what it has to know."""
        table = self.config.plugin.get(self.name) if self.config else None
        fields = self.own_settings.model_fields.values() if self.own_settings else ()
        return table is None and any(field.is_required() for field in fields)

    def places(self, entry: ProviderEntry) -> list[str]:
        """Where the configuration uses a provider: TOML paths."""
        return places_of(self.config, entry.kind, entry.provider.name)

    def report(self, finding: Finding) -> None:
        """Write a finding down."""
        self.output.write("finding", {"level": finding.level, "what": finding.what, "remedy": finding.remedy})

    def step(self, what: str) -> None:
        """Write down what is done next, for whoever finds the process dead."""
        self.output.write("step", what)


def about(entry: ProviderEntry) -> str:
    """``policy 'plant'``."""
    return f"{words_for(entry.kind)} {entry.provider.name!r}"
