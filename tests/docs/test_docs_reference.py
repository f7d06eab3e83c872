"""The generated pages are what the code says now, and complete."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kipuka_core import errors, measuring
from kipuka_core.cli import commands
from kipuka_core.cli.reference import write_pages
from kipuka_core.cli.source import class_text
from kipuka_core.domain.port import Port
from kipuka_core.edges.http.status import status_of
from kipuka_core.edges.metrics import catalogue
from kipuka_core.edges.metrics.catalogue import Kind, Metric
from kipuka_core.hooks import spec
from kipuka_core.model import event
from kipuka_core.model.request import Operation
from tests.docs.blocks import ROOT

GENERATED = (
    "configuration.md", "configuration.schema.json", "hooks.md", "cli.md", "events.md", "errors.md", "metrics.md",
    "http-api.md",
)  # fmt: skip


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("docs")
    write_pages(directory)
    return directory


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_what_the_code_says(fresh: Path, name: str) -> None:
    committed = ROOT / "docs" / name
    assert committed.read_text(encoding="utf-8") == (fresh / name).read_text(encoding="utf-8"), "run make docs"


def test_every_generated_page_is_looked_at(fresh: Path) -> None:
    assert sorted(file.name for file in fresh.iterdir()) == sorted(GENERATED)


def test_every_hook_and_every_method_of_a_port_is_explained(fresh: Path) -> None:
    page = (fresh / "hooks.md").read_text()
    for name in spec.HOOKS:
        assert f"| `{name}` | `Sequence[" in page
    for port in Port.__subclasses__():
        text = class_text(port)
        assert f"### `{text.name}`" in page
        for method in text.methods:
            assert method.about, f"{text.name}: {method.signature} has no docstring"
            assert f"#### `{method.signature}`" in page


def test_every_command_and_option_is_explained(fresh: Path) -> None:
    page = (fresh / "cli.md").read_text()
    for name in (*commands(), "otp create", "certs revoke", "plugins list", "crl make", "crl show", "crl export"):
        assert f"## `kipuka {name}`" in page
    assert "| `--ttl` DURATION |" in page


def test_every_event_is_there_once_with_its_fields(fresh: Path) -> None:
    page = (fresh / "events.md").read_text()
    names = {cls.name for cls in event.Event.__subclasses__() if cls.__module__ == event.__name__}
    assert {name: page.count(f"\n## `{name}`\n") for name in names} == dict.fromkeys(names, 1)
    assert "Further fields: `otp_id`, `entity_id`, `expires_at`, `max_usage`, `subject_pattern`." in page


def test_every_refusal_is_there_with_its_status(fresh: Path) -> None:
    page = (fresh / "errors.md").read_text()
    tree = ast.parse(Path(errors.__file__).read_text(encoding="utf-8"))
    for name in (each.name for each in tree.body if isinstance(each, ast.ClassDef)):
        kind = getattr(errors, name)
        if issubclass(kind, errors.RequestRefused):
            assert f"| {status_of(kind.__new__(kind))} | `{name}` |" in page
    assert "| 401 | `otp_used` | this one-time password has been used up; ask for a new one |" in page
    assert "| 503 | `store_unavailable` |" in page


def test_every_metric_is_there_once_as_prometheus_has_it(fresh: Path) -> None:
    page = (fresh / "metrics.md").read_text()
    declared = [each for module in (catalogue, measuring) for each in vars(module).values() if isinstance(each, Metric)]
    assert {each.name for each in declared} >= {"kipuka_enrolments", "kipuka_processes", "kipuka_part_up"}
    for each in declared:
        name = f"{each.name}_total" if each.kind is Kind.COUNTER else each.name
        assert page.count(f"| `{name}` | {each.kind} |") == 1


def test_every_path_is_there_with_what_it_takes_and_answers(fresh: Path) -> None:
    page = (fresh / "http-api.md").read_text()
    for operation in Operation:
        assert f"| `{operation}` | " in page
    assert "| GET | `/admin/health/live` | open |" in page
    assert "| GET | `/admin/certs` | viewer |" in page
    assert "| POST | `/admin/certs/{serial}/revoke` | operator |" in page
    assert "### `POST /admin/otp/generate`" in page
    assert "### OtpGenerate" in page
    linked = set(re.findall(r"\]\(#(\w+)\)", page))
    assert linked <= {heading.lower() for heading in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
