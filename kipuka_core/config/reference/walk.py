"""Every table of the file in the order of the reference, and the JSON form of its keys."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kipuka_core.config.failures import models_in
from kipuka_core.config.model import Config
from kipuka_core.config.section import NotYet
from kipuka_core.config.sections.enrollment import Enrollment, EstLabel
from kipuka_core.config.sections.plugins import AuditSink, Ca

PluginModels = Mapping[str, type[BaseModel]]
CHOOSING_KEYS = {"ca": "backend", "audit.sink": "use"}
"""In a table that is partly a plugin's: the key that says whose."""
_CORE_MODELS: Mapping[str, type[BaseModel]] = {"ca": Ca, "audit.sink": AuditSink}
_CHOSEN = re.compile(r"(?P<table>.+)\[(?P<word>.+)\]")

_ONLY_THE_HEADER = re.compile(r"(?:An? |One )?`\[+[\w.-]+\]+`(?: table)?(?: with `[^`]+`)?(?:, for [\w ]+)?\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the file. ``path`` is dotted; a part in capitals (``auth.NAME``) stands for any name."""

    path: str
    model: type[BaseModel] | None
    """None: a table whose keys belong to a plugin."""
    intro: str
    is_array: bool = False
    is_plugin: bool = False
    chosen_by: str | None = None
    """``backend = "local"``: the line that makes this part of the table apply."""
    core_keys: frozenset[str] = frozenset()
    """Keys of a table that is partly a plugin's which the core describes already."""

    @property
    def header(self) -> str:
        """As TOML writes it."""
        return f"[[{self.path}]]" if self.is_array else f"[{self.path}]"

    @property
    def keys(self) -> dict[str, FieldInfo]:
        """The table's own keys: no tables below it, and nothing that another table describes (``[enrollment]``)."""
        if self.model is None:
            return {}
        inherited = Enrollment.model_fields if issubclass(self.model, EstLabel) else self.core_keys
        return {
            name: field
            for name, field in self.model.model_fields.items()
            if name not in inherited and (self.is_plugin or _table_model(field) is None)
        }


def tables(plugin_settings: PluginModels) -> Iterator[Table]:
    """Every table in the order of the reference, those of plugins after the one that they belong to."""
    for name, field in Config.model_fields.items():
        yield from _tables(name, field, plugin_settings)


def _tables(path: str, field: FieldInfo, plugin_settings: PluginModels) -> Iterator[Table]:
    model = _table_model(field)
    own = [plugin_table(name, settings) for name, settings in plugin_settings.items() if _parent(name) == path]
    if model is None:
        # [hsm] is one table; [key_store.NAME] and [plugin.NAME] are any number of them.
        many = isinstance(field.get_default(call_default_factory=True, validated_data={}), dict)
        if path not in plugin_settings:
            intro = (field.description or "") + " The keys are the plugin's own."
            yield Table(path=f"{path}.NAME" if many else path, model=None, intro=intro)
        yield from own
        return
    yield Table(path=path, model=model, intro=intro_of(model), is_array=get_origin(field.annotation) is tuple)
    for name, below in model.model_fields.items():
        if _table_model(below) is not None:
            yield from _tables(f"{path}.{name}", below, plugin_settings)
    extra = getattr(model, "extra_tables", None)
    if extra is not None:
        yield Table(path=f"{path}.NAME", model=extra, intro=intro_of(extra))
    yield from own


def plugin_table(name: str, settings: type[BaseModel]) -> Table:
    """The table of one plugin, by its path as in ``PluginModels``."""
    match = _CHOSEN.fullmatch(name)
    if match is None:
        return Table(path=name, model=settings, intro=plugin_intro(settings), is_plugin=True)
    chosen_by = f'{CHOOSING_KEYS[match["table"]]} = "{match["word"]}"'
    return Table(
        path=match["table"],
        model=settings,
        intro=plugin_intro(settings),
        is_array=True,
        is_plugin=True,
        chosen_by=chosen_by,
        core_keys=frozenset(_CORE_MODELS[match["table"]].model_fields),
    )


def _parent(plugin_path: str) -> str:
    match = _CHOSEN.fullmatch(plugin_path)
    if match:
        return match["table"]
    return plugin_path.rpartition(".")[0] or plugin_path


def _table_model(field: FieldInfo) -> type[BaseModel] | None:
    return next(models_in(field.annotation), None)


def intro_of(model: type[BaseModel]) -> str:
    """The model's docstring as Markdown."""
    return inspect.cleandoc(model.__doc__ or "").replace("``", "`")


def plugin_intro(model: type[BaseModel]) -> str:
    """What a plugin's module says of itself in its first paragraph, then what its settings say beyond their header."""
    about_plugin = inspect.cleandoc(sys.modules[model.__module__].__doc__ or "").partition("\n\n")[0]
    paragraphs = (about_plugin.replace("``", "`"), intro_of(model))
    return "\n\n".join(text for text in paragraphs if text and not _ONLY_THE_HEADER.fullmatch(text))


def is_available(field: FieldInfo) -> bool:
    """Whether anything but the default of this key is accepted."""
    return not any(isinstance(mark, NotYet) and not mark.values for mark in field.metadata)


def default_json(model: type[BaseModel], name: str) -> Any:
    """A key's default as JSON, in the form in which a person writes it (``"30s"``, ``"clientAuth"``)."""
    return model.model_construct().model_dump(mode="json", include={name}).get(name)
