"""The generated page and schema: fresh, complete, and true."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from kipuka_core.config import parse
from kipuka_core.config.reference import builtin_settings, example_toml, render_page, render_schema, write_reference
from kipuka_core.config.reference.walk import tables
from kipuka_core.hooks.durations import Duration
from kipuka_core.hooks.provider import Settings

DOCS = Path(__file__).parents[2] / "docs"
FILE = Path("/conf/kipuka.toml")


class _Otp(Settings):
    """One-time passwords, ``16`` bytes."""

    ttl: Duration = 86400
    bits: int = 160


class _Local(Settings):
    """Keys in files."""

    cert: Path
    validity_days: int = 365


class _Names(Settings):
    """Names."""


PLUGINS: dict[str, type[BaseModel]] = {"auth.otp": _Otp, "ca[local]": _Local, "policy.names": _Names, "hsm": _Otp}


@pytest.mark.parametrize("name", ["configuration.md", "configuration.schema.json"])
def test_the_reference_is_what_the_models_say(tmp_path: Path, name: str) -> None:
    write_reference(tmp_path)
    fresh, committed = (directory / name for directory in (tmp_path, DOCS))
    assert committed.read_text() == fresh.read_text(), "run: make docs"


def test_every_example_on_the_page_is_a_configuration() -> None:
    examples = re.findall(r"```toml\n(.*?)```", render_page(), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        parse(tomllib.loads(example), FILE)


def test_the_complete_example_has_every_key_at_its_default() -> None:
    base = tomllib.loads(example_toml())
    config = parse(base, FILE)
    for section in ("server", "enrollment", "auth", "policy", "plugins", "db", "revocation", "audit"):
        assert getattr(config, section).model_dump() == type(getattr(config, section))().model_dump()
    text = example_toml()
    for table in tables({}):
        for key in table.keys:
            assert re.search(rf"^(# )?{key} = ", text, re.MULTILINE), f"{table.path}.{key}"


def test_every_key_is_on_the_page_with_its_default() -> None:
    page = render_page()
    for table in tables({}):
        section = page.partition(f"## `{table.header}`\n")[2].partition("\n## ")[0]
        for key in table.keys:
            assert f"| `{key}`" in section, f"{table.path}.{key}"
    assert '| `retry_after` | duration | `"60s"` |' in page
    assert '| `ext_key_usage` **L** | list of extended key usages | `["clientAuth"]` |' in page


def test_the_settings_of_every_built_in_plugin_are_on_the_committed_page() -> None:
    page = (DOCS / "configuration.md").read_text()
    for header in ("[auth.otp]", "[auth.basic]", "[auth.mtls]", "[policy.names]", "[key_store.file]"):
        assert f"\n## `{header}`\n" in page
    assert '\n## `[[ca]]` with `backend = "local"`\n' in page
    assert '\n## `[[audit.sink]]` with `use = "jsonl"`\n' in page
    assert '| `lockout` | duration | `"30m"` |' in page
    assert '| `san_kinds` | list of `"dns"`, ' in page
    schema = json.loads((DOCS / "configuration.schema.json").read_text())
    assert schema["$defs"]["Auth"]["properties"]["otp"]["properties"]["ttl"]["x-kind"] == "duration"


def test_what_the_core_says_of_a_table_is_not_said_again_by_the_plugin_that_shares_it() -> None:
    local = next(table for table in tables(builtin_settings()) if table.chosen_by == 'backend = "local"')
    assert local.model is not None
    assert "id" in local.model.model_fields
    assert "id" not in local.keys
    assert {"cert", "key"} <= set(local.keys)


def test_the_example_with_every_built_in_plugin_is_a_configuration() -> None:
    parse(tomllib.loads(example_toml(builtin_settings())), FILE)


def test_unavailable_keys_say_so_on_the_page() -> None:
    (line,) = [line for line in render_page().splitlines() if line.startswith("| `fullcmc`")]
    assert line.endswith("Not available yet. |")


def test_settings_of_plugins_are_on_the_page_where_they_belong() -> None:
    page = render_page(PLUGINS)
    headers = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert headers.index("`[auth.otp]`") == headers.index("`[auth.NAME]`") + 1
    assert headers.index('`[[ca]]` with `backend = "local"`') == headers.index("`[[ca]]`") + 1
    assert '| `ttl` | duration | `"24h"` |' in page
    assert "One-time passwords, `16` bytes." in page
    assert "| `cert` | path | required |" in page
    assert "No settings." in page
    assert headers.count("`[hsm]`") == 1
    parse(tomllib.loads(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[-1]), FILE)


def test_settings_of_plugins_are_in_the_schema_where_they_belong() -> None:
    schema = json.loads(render_schema(PLUGINS))
    definitions = schema["$defs"]
    assert definitions["Auth"]["properties"]["otp"]["properties"]["ttl"]["default"] == "24h"
    assert definitions["Auth"]["properties"]["otp"]["properties"]["use"] == {
        "const": "otp",
        "description": "The provider.",
    }
    (choice,) = definitions["Ca"]["allOf"]
    assert choice["if"] == {"properties": {"backend": {"const": "local"}}}
    assert choice["then"]["required"] == ["cert"]
    assert schema["properties"]["hsm"]["properties"]["bits"]["default"] == 160


def test_the_schema_refuses_unknown_keys_and_shows_defaults_as_people_write_them() -> None:
    schema = json.loads(render_schema())
    definitions = schema["$defs"]
    assert schema["additionalProperties"] is False
    assert definitions["Server"]["additionalProperties"] is False
    assert definitions["Server"]["properties"]["listen"]["default"] == "0.0.0.0:8443"
    assert definitions["Server"]["properties"]["idle_timeout"]["default"] == "30s"
    assert definitions["Enrollment"]["properties"]["allowed_extensions"]["default"][0] == "subjectAltName"
    assert "default" not in definitions["Server"]["properties"]["http_listen"]
