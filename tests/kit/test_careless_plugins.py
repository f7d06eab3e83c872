"""Plugins with one mistake each: the contract suite finds it, and no server is weaker for it.

The table is in ``tests/kit/careless/``: each row says what the author of such a plugin reads, in the test and in the
server. A server stops at its start with one line, or refuses the request and says nothing of the plugin to the client.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server
from tests.kit.careless.plugins import DISTRIBUTION, ROWS, install
from tests.kit.careless.server import Tried, assembled, enrol, logged, toml_for
from tests.kit.careless.sound import HIDDEN, PASSWORD, USER
from tests.kit.careless.table import AtRequest, AtStart, Careless, Unseen
from tests.startup.distributions import importable
from tests.startup.starting import Outcome, check

ROOT = Path(__file__).parents[2]
CONTRACTS = Path(__file__).parent / "careless" / "contracts.py"
_CASES = {
    "test_it_shapes_every_kind_of_csr": "[name and SAN]",
    "test_it_judges_every_kind_of_csr": "[name and SAN]",
    "test_its_advice_can_be_encoded": "[default]",
}
FOUND = [row for row in ROWS if row.contract is not None]
STOPPED = [row for row in ROWS if isinstance(row.server, AtStart)]
REFUSED = [row for row in ROWS if isinstance(row.server, AtRequest)]
UNSEEN = [row for row in ROWS if isinstance(row.server, Unseen)]


def _mistake(row: Careless) -> str:
    return row.mistake


def _pytest(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    return subprocess.run(
        [*command, f"--basetemp={directory / 'run'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the contract suites say, by the name of the plugin: one run of pytest over all of them."""
    directory = tmp_path_factory.mktemp("contracts")
    tests = []
    for row in FOUND:
        assert row.contract is not None
        test = row.contract.test
        tests.append(f"{CONTRACTS}::Test_{row.name}::{test}{_CASES.get(test, '')}")
    report = directory / "report.xml"
    done = _pytest(f"--junitxml={report}", *tests, directory=directory)
    assert report.exists(), done.stdout + done.stderr
    return {
        case.get("classname", "").rpartition(".Test_")[2]: "\n".join(each.get("message", "") for each in case)
        for case in ET.parse(report).iter("testcase")
    }


@pytest.mark.parametrize("row", FOUND, ids=_mistake)
def test_the_contract_suite_tells_the_author(row: Careless, failures: dict[str, str]) -> None:
    assert row.contract is not None
    assert row.contract.says in failures[row.name]


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_suites_find_nothing_in_sound_plugins(mode: str, tmp_path: Path) -> None:
    done = _pytest("-k", "TestSound", "-o", f"asyncio_mode={mode}", str(CONTRACTS), directory=tmp_path)

    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment, and the distribution installed beside it."""
    directory = tmp_path_factory.mktemp("careless")
    install(directory / "site")
    with importable(directory / "site"):
        yield make_deployment(directory / "deployment")


@pytest.mark.parametrize("row", STOPPED, ids=_mistake)
def test_the_start_stops_with_one_line(row: Careless, deployment: Deployment) -> None:
    assert isinstance(row.server, AtStart)
    deployment.toml.write_text(toml_for(row), encoding="utf-8")

    line = check(deployment).only_line()

    assert row.server.says in line
    assert any(named in line for named in (DISTRIBUTION, row.name, "tests.kit.careless."))


async def _tried(deployment: Deployment, row: Careless) -> Tried:
    with logged() as log:
        async with assembled(deployment, row) as assembly:
            before = len(await assembly.store.search_certificates(limit=1000))
            answer = await enrol(assembly)
            await assembly.road.drain()
            after = len(await assembly.store.search_certificates(limit=1000))
    return Tried(answer, after - before, log.getvalue())


@pytest.mark.parametrize("row", REFUSED, ids=_mistake)
async def test_the_request_is_refused(row: Careless, deployment: Deployment) -> None:
    assert isinstance(row.server, AtRequest)

    tried = await _tried(deployment, row)

    assert tried.answer.status == row.server.status, tried.log
    assert tried.certificates_on_record == 0
    assert row.server.logs in tried.log.replace('\\"', '"')
    for told in (tried.answer.body.decode(), tried.log):
        assert PASSWORD not in told
        assert HIDDEN not in told
    assert not any(word in tried.answer.body.decode() for word in (row.name, "careless", "Error", "Traceback", "\r"))


@pytest.mark.parametrize("row", UNSEEN, ids=_mistake)
async def test_what_no_server_can_see_is_not_shown_either(row: Careless, deployment: Deployment) -> None:
    tried = await _tried(deployment, row)

    assert tried.answer.status in {200, 403}, tried.log
    assert HIDDEN not in tried.log or row.mistake == "a reason with a secret"


async def test_a_plugin_that_cannot_be_closed_is_one_line_in_the_log(deployment: Deployment) -> None:
    (row,) = (row for row in ROWS if row.mistake == "closing it raises")

    tried = await _tried(deployment, row)

    assert "plugin 'closing_it_raises' failed to close, and the rest is closed all the same: " in tried.log
    assert "openings._breaks_at_its_end raised ConnectionResetError in line " in tried.log
    assert PASSWORD not in tried.log


# -- A server of its own: what could end a process, or hold it up ------------------------------------------------------
AUTHENTICATORS = [
    "authenticate calls sys.exit()",
    "authenticate raises what is no Exception",
    "authenticate hangs",
    "authenticate blocks the event loop",
    "authenticate goes on after cancellations",
]
CAS = ["issue calls sys.exit()", "issue returns PEM in Issued", "issue makes a CA of a device"]
BY_MISTAKE = {row.mistake: row for row in ROWS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with a label for each plugin."""
    directory = tmp_path_factory.mktemp("running")
    install(directory / "site")
    deployment = make_deployment(directory / "deployment")
    rows = [BY_MISTAKE[mistake] for mistake in (*AUTHENTICATORS, *CAS)]
    enable = ", ".join(f'"{row.name}"' for row in rows)
    local = '[[ca]]\nid = "default"\nis_default = true\nbackend = "local"\nkey = "state/ca/issuing.key"\n'
    toml = [f'[plugins]\nenable = ["sound", {enable}]\ntimeout = "1s"\n[auth]\norder = ["sound"]\n', local]
    toml.append('cert = "state/ca/issuing.pem"\nchain = "state/ca/root.pem"\n')
    toml += [f'[[ca]]\nid = "{row.name}"\nbackend = "{row.name}"\n' for row in rows if row.kind == "ca_backend"]
    for row in rows:
        use = f'ca = "{row.name}"' if row.kind == "ca_backend" else f'auth = ["{row.name}"]'
        toml.append(f'[[est.label]]\nname = "{row.name}"\n{use}\n')
    deployment.configure("".join(toml), client_auth='mode = "none"')
    path = os.pathsep.join((str(directory / "site"), str(ROOT)))
    with running_server(deployment, environment={"PYTHONPATH": path}) as running:
        yield running


@pytest.mark.parametrize("mistake", [*AUTHENTICATORS, *CAS])
def test_a_running_server_refuses_goes_on_and_names_the_plugin(mistake: str, server: RunningServer) -> None:
    row, client, before = BY_MISTAKE[mistake], server.client(), server.worker_pids()
    assert isinstance(row.server, AtRequest)
    csr = make_csr(common_name=USER)

    answer = client.enrol(csr, user=USER, password=PASSWORD, label=row.name)

    assert answer.status == row.server.status
    assert answer.text.startswith(
        ("the server could not process this request\n", "the certification authority returned")
    )
    logs = row.server.logs
    server.wait_for_log(lambda line: any(logs in str(value) for value in line.values()))
    assert client.enrol(csr, user=USER, password=PASSWORD).status == 200, "and all others are served"
    assert server.worker_pids() == before
    with closing(sqlite3.connect(server.deployment.database)) as database:
        recorded = database.execute("SELECT count(*) FROM certificates WHERE label = ?", (row.name,)).fetchone()
    assert recorded == (0,)


def test_sys_exit_in_an_import_stops_a_server_with_its_line(deployment: Deployment) -> None:
    (row,) = (row for row in ROWS if row.mistake == "the import calls sys.exit()")
    deployment.toml.write_text(toml_for(row), encoding="utf-8")
    site = deployment.directory.parent / "site"

    done = deployment.kipuka("serve", check=False, PYTHONPATH=os.pathsep.join((str(site), str(ROOT))))

    line = Outcome(done.returncode, done.stdout, done.stderr).only_line()
    assert line == f"plugin '{row.name}' of distribution {DISTRIBUTION}: cannot be imported: SystemExit: 0"
