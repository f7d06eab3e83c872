"""Nothing lies under ``examples/`` that no test runs: each file has its line here, with the test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, pages
from tests.packaging.example import EXAMPLES as PLUGINS

EXAMPLES = ROOT / "examples"
DEPLOYMENTS = "tests/examples/test_deployments.py"
MONITORING = "tests/examples/test_monitoring.py"
PAGES = "tests/docs/test_docs_blocks.py::test_what_a_page_says_can_be_done_as_it_says"
SYSTEMD = "tests/examples/test_systemd_unit.py"
OPENSSL_CA = "tests/external/test_openssl_ca_example.py"
RUN_BY = {
    "deployments/basic.toml": (
        f"{DEPLOYMENTS}::test_basic_enrols_with_a_password_and_renews_with_the_certificate_by_curl"
    ),
    "deployments/development.toml": f"{DEPLOYMENTS}::test_development_enrols_with_a_password_by_curl",
    "deployments/fips.toml": f"{DEPLOYMENTS}::test_fips_enrols_a_device_with_a_certificate_and_renews",
    "deployments/high-security.toml": (
        f"{DEPLOYMENTS}::test_high_security_enrols_a_device_with_a_certificate_and_renews_by_curl"
    ),
    "deployments/production.toml": (
        f"{DEPLOYMENTS}::test_production_enrols_with_a_password_and_renews_with_the_certificate"
    ),
    "monitoring/kipuka-alerts.yml": f"{MONITORING}::test_promtool_reads_the_rules_and_the_configuration",
    "monitoring/kipuka-dashboard.json": f"{MONITORING}::test_every_query_asks_for_what_there_is",
    "monitoring/prometheus.yml": f"{MONITORING}::test_promtool_reads_the_rules_and_the_configuration",
    "openssl-ca/README.md": PAGES,
    "openssl-ca/kipuka.toml": PAGES,
    "openssl-ca/make-ca": PAGES,
    "openssl-ca/openssl.cnf": f"{OPENSSL_CA}::test_the_same_request_never_gets_two_certificates",
    "openssl-ca/sign": f"{OPENSSL_CA}::test_the_same_request_never_gets_two_certificates",
    "systemd/kipuka.service": f"{SYSTEMD}::test_systemd_finds_nothing_wrong_with_the_unit",
    "systemd/kipuka.sysusers": f"{SYSTEMD}::test_the_user_of_the_unit_is_the_one_that_the_snippet_makes",
}
STORY = "tests/packaging/test_example_plugin.py::test_it_does_what_its_readme_says"
OWN_TESTS = "tests/packaging/test_example_plugin.py::test_its_own_tests_pass"
BUILT = "tests/packaging/test_built_distributions.py::test_an_installed_example_does_what_its_readme_says"


def run_by(file: str) -> str:
    """The test that runs a file; empty: none."""
    for plugin in PLUGINS:
        if file in {f"{plugin.name}/README.md", f"{plugin.name}/{plugin.module.name}"}:
            return STORY
        if file == f"{plugin.name}/pyproject.toml":
            return BUILT
        if file.startswith(f"{plugin.name}/tests/"):
            return OWN_TESTS
    return RUN_BY.get(file, "")


def is_litter(file: Path) -> bool:
    """What running things leaves behind, which git ignores too."""
    return any(part.startswith(".") or part == "__pycache__" for part in file.parts)


def files() -> list[str]:
    found = (each.relative_to(EXAMPLES) for each in EXAMPLES.rglob("*") if each.is_file())
    return sorted(str(each) for each in found if not is_litter(each))


@pytest.mark.parametrize("file", files())
def test_it_is_run_by_a_test(file: str) -> None:
    test = run_by(file)
    assert test, f"examples/{file} is run by no test: write one, and name it in {Path(__file__).name}"
    module, _, name = test.partition("::")
    assert name in functions_of(ROOT / module), f"{test} is gone"


def test_no_line_is_about_a_file_that_has_gone() -> None:
    assert set(RUN_BY) - set(files()) == set()


@pytest.mark.parametrize("file", [each for each in files() if each.endswith("README.md")])
def test_its_page_is_among_those_whose_blocks_are_run(file: str) -> None:
    assert f"examples/{file}" in pages()


def functions_of(module: Path) -> set[str]:
    """Names of its tests, also of those in classes."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return {each.name for each in functions if each.name.startswith("test_")}
