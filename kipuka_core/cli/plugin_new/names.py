"""How a new plugin is called, and why it cannot be."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from kipuka_core.cli.plugin_new.kinds import Kind
from kipuka_core.config.model import Config
from kipuka_core.config.reference import SISTER_PLUGINS
from kipuka_core.hooks.manager import load_plugins

_PREFIX = "kipuka-"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 30
"""So that no line of what is made gets too long."""
_OUR_PACKAGES = frozenset({"core", "builtin"})
_OUR_SCHEMES = frozenset({"pkcs11"})


@dataclass(frozen=True, slots=True)
class PluginName:
    """The name of a plugin, and what follows from it."""

    name: str

    @property
    def distribution(self) -> str:
        """``kipuka-erp-serials``, for ``pip install``."""
        return f"{_PREFIX}{self.name}"

    @property
    def package(self) -> str:
        """``kipuka_erp_serials``, for ``import``."""
        return self.distribution.replace("-", "_")

    @property
    def class_prefix(self) -> str:
        """``ErpSerials``, for the names of classes."""
        return "".join(word.capitalize() for word in self.name.split("-"))


def read_name(text: str, kind: Kind, commands: Collection[str]) -> PluginName:
    """The name as somebody has written it, with or without ``kipuka-``. ``commands`` are those that kipuka has.

    Raises ValueError, which says what to write instead.
    """
    name = text.removeprefix(_PREFIX)
    problem = _spelling_problem(name) or _taken_problem(name, kind, commands)
    if problem:
        raise ValueError(problem)
    return PluginName(name)


def _spelling_problem(name: str) -> str | None:
    if len(name) > _LONGEST:
        return f"it has {len(name)} characters and may have at most {_LONGEST}"
    if not _NAME.fullmatch(name):
        plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
        better = re.sub(r"[^a-z0-9]+", "-", plain).strip("-").removeprefix(_PREFIX).lstrip("0123456789-")
        hint = f', such as "{better}"' if _NAME.fullmatch(better) else ""
        return f"write lower-case letters, then digits too, in words joined by hyphens{hint}"
    if keyword.iskeyword(name):
        return f"{name!r} is a word of Python; add another, such as {f'{name}-plugin'!r}"
    return None


def _taken_problem(name: str, kind: Kind, commands: Collection[str]) -> str | None:
    if name in _OUR_PACKAGES or name in SISTER_PLUGINS:
        return f"kipuka-{name} is a part of kipuka; take another name"
    plugins = load_plugins(())
    if name in {each.name for each in plugins.infos if each.distribution == "kipuka"}:
        return f"a plugin of kipuka itself is called {name!r}; take another name"
    if kind.provides is None:
        return f"kipuka has a command {name!r}; take another name" if name in commands else None
    if name in plugins.providers[kind.provides] or (kind.word == "keys" and name in _OUR_SCHEMES):
        return f"kipuka brings {kind.called} {name!r}; take another name"
    if name in _keys_of(kind.table):
        return f"[{kind.table}] has a key {name!r}, so that it can have no table of this name; take another name"
    return None


def _keys_of(table: str | None) -> Collection[str]:
    if table is None:
        return ()
    section = Config.model_fields[table].annotation
    return set(section.model_fields) if section is not None and hasattr(section, "model_fields") else ()
