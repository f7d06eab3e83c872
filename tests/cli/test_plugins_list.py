"""``kipuka plugins list`` and ``docs``, also of plugins that do what no plugin should."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.testing.server import Deployment
from tests.cli.plugin_kit import GOOD, NEEDS_NOTHING, USED, install, plugins
from tests.startup.distributions import importable
from tests.startup.starting import Outcome, check


def rows(done: Outcome) -> dict[tuple[str, str | None], dict[str, Any]]:
    assert done.code == 0, done.stderr
    return {(each["name"], each["kind"]): each for each in json.loads(done.stdout)}


# -- list --------------------------------------------------------------------------------------------------------------
def test_the_list_says_what_is_used_and_where_the_settings_are(deployment: Deployment, site: Path) -> None:
    install(site, GOOD)
    deployment.configure(USED)
    table = plugins(deployment, site, "list").stdout
    (line,) = [line for line in table.splitlines() if line.startswith("plant ")]
    assert re.split(r"  +", line) == [
        "plant", "policy", "kipuka-plant", "1.0", "1", "yes", "[policy.plant]", "policy.plant",
    ]  # fmt: skip
    found = rows(plugins(deployment, site, "list", "--json"))
    assert found["plant", "policy"] == {
        "name": "plant",
        "kind": "policy",
        "distribution": "kipuka-plant",
        "version": "1.0",
        "api_version": 1,
        "enabled": True,
        "status": "active",
        "table": "[policy.plant]",
        "settings": ["plants", "days"],
        "used_as": ["policy.plant"],
        "problem": None,
    }
    assert found["local", "ca_backend"]["used_as"] == ["ca[0]"]
    assert "id" not in found["local", "ca_backend"]["settings"]
    assert found["basic", "authenticator"]["status"] == "idle"
    assert found["files", "tls_material"]["table"] == "[tls]"


def test_what_is_not_enabled_is_listed_and_not_loaded(deployment: Deployment, site: Path, tmp_path: Path) -> None:
    marker = tmp_path / "imported"
    install(site, f"open({str(marker)!r}, 'w').close()\n")
    each = rows(plugins(deployment, site, "list", "--json"))["plant", None]
    assert (each["enabled"], each["status"], each["api_version"], each["problem"]) == (False, "disabled", None, None)
    assert "(not loaded)" in plugins(deployment, site, "list").stdout
    assert not marker.exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("kipuka_api_version = 99", "speaks hook API version 99"),
        ("import sys\nsys.exit(3)", ""),
        ("def kipuka_policies():\n    return []", "not marked with @hookimpl"),
    ],
    ids=["import fails", "newer API", "exits", "no hookimpl"],
)
def test_an_enabled_plugin_that_is_broken_is_listed_with_its_problem(
    deployment: Deployment, site: Path, source: str, says: str
) -> None:
    install(site, source)
    install(site, GOOD.replace('"plant"', '"sound"'), name="kipuka-sound", plugin="sound")
    deployment.configure('[plugins]\nenable = ["plant", "sound"]')
    found = rows(plugins(deployment, site, "list", "--json"))
    broken = found["plant", None]
    assert says in broken["problem"]
    assert (broken["enabled"], broken["status"]) == (True, "failing")
    assert broken["api_version"] == (99 if "99" in source else None)
    assert found["sound", "policy"]["problem"] is None
    assert found["otp", "authenticator"]["used_as"] == ["auth.otp"]
    table = plugins(deployment, site, "list").stdout
    assert f"problem: plugin 'plant' of distribution kipuka-plant: {broken['problem']}" in table.splitlines()


def test_a_plugin_that_is_enabled_and_not_installed_is_listed_too(deployment: Deployment, site: Path) -> None:
    deployment.configure('[plugins]\nenable = ["plant"]')
    found = rows(plugins(deployment, site, "list", "--json"))
    assert found["plant", None]["distribution"] == "(not installed)"
    assert "no installed distribution has a plugin 'plant'" in found["plant", None]["problem"]
    assert found["otp", "authenticator"]["enabled"]


def test_two_distributions_that_claim_one_name_are_both_listed(deployment: Deployment, site: Path) -> None:
    install(site, GOOD)
    install(site, GOOD, name="kipuka-other", module="other_plugin")
    done = plugins(deployment, site, "list", "--json")
    found = [each for each in json.loads(done.stdout) if each["problem"]]
    assert sorted(each["distribution"] for each in found) == ["kipuka-other", "kipuka-plant"]
    assert all("both claim the plugin name 'plant'" in each["problem"] for each in found)


def test_what_a_plugin_prints_does_not_get_into_the_json(deployment: Deployment, site: Path) -> None:
    install(site, f"{GOOD}\nprint('hello')\n")
    deployment.configure(USED)
    done = plugins(deployment, site, "list", "--json")
    assert rows(done)["plant", "policy"]["enabled"]
    assert "hello" in done.stderr


# -- docs --------------------------------------------------------------------------------------------------------------
def _example(page: str) -> str:
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    return str(example)


@pytest.mark.parametrize("name", ["plant", "kipuka-plant"])
def test_the_docs_of_a_plugin_have_its_keys_and_an_example_that_loads(
    deployment: Deployment, site: Path, name: str
) -> None:
    install(site, f"{GOOD}\nprint('not a part of the page')\n")
    done = plugins(deployment, site, "docs", name)
    assert done.stdout.startswith("# The policy `plant`\n\nPlugin `plant` of distribution kipuka-plant 1.0.\n\n")
    assert "## `[policy.plant]`\n\nPolicy `plant`: only devices of a plant.\n" in done.stdout
    assert "| `plants` | list of text | required | Names of plants. |\n" in done.stdout
    assert "| `days` | number | `90` | The longest validity. |\n" in done.stdout
    assert "not a part of the page" not in done.stdout
    deployment.configure(_example(done.stdout))
    with importable(site):
        assert check(deployment).code == 0


@pytest.mark.parametrize("name", ["otp", "syslog", "local", "file", "self", "vault", "hsm", "kipuka-acme"])
def test_built_in_providers_and_sisters_have_docs_whose_example_is_toml(
    deployment: Deployment, site: Path, name: str
) -> None:
    page = plugins(deployment, site, "docs", name).stdout
    reference = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    keys = [line for line in page.splitlines() if line.startswith("| `")]
    assert keys
    assert all(line in reference for line in keys)
    assert tomllib.loads(_example(page))


def test_what_a_name_means_twice_is_asked_for(deployment: Deployment, site: Path) -> None:
    other = NEEDS_NOTHING.replace("kipuka_policies", "kipuka_authenticators")
    install(site, GOOD)
    install(site, other, name="kipuka-other", plugin="other")
    deployment.configure('[plugins]\nenable = ["other"]')
    done = plugins(deployment, site, "docs", "plant")
    assert done.code == 1
    assert "'plant' is ambiguous: policy 'plant' of plugin 'plant' of distribution kipuka-plant: --kind policy;" in (
        done.stderr
    )
    assert "## `[auth.plant]`" in plugins(deployment, site, "docs", "plant", "--kind", "authenticator").stdout
    assert "## `[policy.plant]`" in plugins(deployment, site, "docs", "plant", "--kind", "policy").stdout


@pytest.mark.parametrize(
    ("source", "says"),
    [("import os\nos._exit(3)", "ended the process with exit code 3"), ("import no_such", "cannot be imported")],
)
def test_docs_of_a_plugin_that_cannot_be_loaded_are_an_error_of_one_line(
    deployment: Deployment, site: Path, source: str, says: str
) -> None:
    install(site, source)
    done = plugins(deployment, site, "docs", "plant")
    assert (done.code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert says in line


def test_a_plugin_without_providers_has_no_settings_to_describe(deployment: Deployment, site: Path) -> None:
    install(site, "from kipuka_core import hookimpl\n@hookimpl\ndef kipuka_cli_commands():\n    return []\n")
    done = plugins(deployment, site, "docs", "plant")
    assert done.code == 1
    assert "'plant' brings no provider, so it has no settings" in done.stderr
