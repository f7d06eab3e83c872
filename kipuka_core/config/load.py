"""Reading ``kipuka.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kipuka_core.config.checks import cross_checks
from kipuka_core.config.failures import explain, raise_if_any
from kipuka_core.config.model import Config
from kipuka_core.errors import ConfigurationError

ModelT = TypeVar("ModelT", bound=BaseModel)

LOCAL_FILE = Path("kipuka.toml")
SYSTEM_FILE = Path("/etc/kipuka/kipuka.toml")
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")
_POSITION = re.compile(r"(.*) \(at (line \d+, column \d+|end of document)\)", re.DOTALL)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read a configuration file.

    ``path`` None means the file named by ``KIPUKA_CONFIG``, else ``./kipuka.toml``, else ``/etc/kipuka/kipuka.toml``.
    ``KIPUKA_STATE_DIR`` overrides ``[server] state_dir``; when relative, it is relative to the working directory.

    Raises ConfigurationError: the file cannot be found, read or parsed, or something in it is wrong.
    """
    file = _find(path, environ).absolute()
    changed_at = _changed_at(file)
    document = _read(file)
    state_dir = environ.get("KIPUKA_STATE_DIR")
    server = document.setdefault("server", {})
    if state_dir and isinstance(server, dict):
        server["state_dir"] = str(Path(state_dir).absolute())
    config = parse(document, file)
    config._changed_at = changed_at  # noqa: SLF001  # not a key of the file, so not a field
    return config


def _changed_at(file: Path) -> str:
    try:
        changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:  # it says so when it is read
        return ""
    return changed.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(document: Mapping[str, Any], file: Path) -> Config:
    """Check a parsed document as if it stood in ``file``, an absolute path.

    Raises ConfigurationError, or ConfigurationErrors for several.
    """
    config = validate_table(Config, document, "", base_dir=file.parent)
    config._path = file  # noqa: SLF001  # not a key of the file, so not a field
    raise_if_any(cross_checks(config))
    return config


def validate_table(
    model: type[ModelT],
    table: Mapping[str, Any],
    toml_path: str,
    *,
    base_dir: Path,
    other_keys: Collection[str] = (),
) -> ModelT:
    """Check a table against a settings model; errors carry ``toml_path`` and relative paths become absolute.

    ``base_dir`` is what ``Path`` fields are relative to. ``other_keys`` are keys of the same table that were taken out
    before (``use``, ``backend``), good to suggest to somebody who misspelt one.

    Raises ConfigurationError, or ConfigurationErrors for several.
    """
    try:
        return with_absolute_paths(model.model_validate(dict(table)), base_dir)
    except ValidationError as failure:
        errors = explain(failure, model, table, toml_path, other_keys)
    # Raised outside of the handler: the failure holds the input, and a chained traceback would show it.
    raise_if_any(errors)
    raise AssertionError("a validation error without errors")


def with_absolute_paths(model: ModelT, base_dir: Path) -> ModelT:
    """The same values with every relative ``Path``, at any depth, made absolute. ``~`` is not expanded."""
    before = {name: getattr(model, name) for name in type(model).model_fields}
    after = {name: _absolute(value, base_dir) for name, value in before.items()}
    changed = {name: value for name, value in after.items() if value != before[name]}
    return model.model_copy(update=changed) if changed else model


def _absolute(value: Any, base_dir: Path) -> Any:
    match value:
        case Path():
            return base_dir / value
        case BaseModel():
            return with_absolute_paths(value, base_dir)
        case tuple() | list():
            return type(value)(_absolute(item, base_dir) for item in value)
        case dict():
            return {key: _absolute(item, base_dir) for key, item in value.items()}
        case _:
            return value


def _find(path: Path | None, environ: Mapping[str, str]) -> Path:
    if path is not None:
        return path
    if named := environ.get("KIPUKA_CONFIG"):
        return Path(named)
    for candidate in (LOCAL_FILE, SYSTEM_FILE):
        if candidate.exists():
            return candidate
    raise ConfigurationError(
        "kipuka.toml",
        f"no configuration file: KIPUKA_CONFIG is not set, and neither {LOCAL_FILE.absolute()} nor {SYSTEM_FILE} is "
        "there; `kipuka init` writes one",
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8: byte {error.start} cannot be decoded"
    except (ValueError, RecursionError) as error:  # tomllib's own error is a ValueError, and so is a number too long
        problem = _syntax_problem(str(error))
    raise ConfigurationError(str(file), problem)


def _syntax_problem(message: str) -> str:
    match = _POSITION.fullmatch(message)
    if match is None:
        return f"is not TOML: {message}"
    said = match[1]
    if twice := _TWICE.fullmatch(said):
        table = ".".join(re.findall(r"'([^']*)'", twice[1]))
        said = f"the table [{table}] is in the file already; put these keys there"
    elif said == "Cannot overwrite a value":
        said = "this key is in its table already"
    elif said == "Invalid value":
        said = "Invalid value; text stands in quotation marks"
    return f"{match[2]}: {said}"
