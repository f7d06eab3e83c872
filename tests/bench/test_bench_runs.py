"""The bench runs to its end and every row is there; how fast anything is, is no verdict of a test."""

from __future__ import annotations

import json
import pstats
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.report import Measured
from tests.bench.rooms import room_of, shares
from tests.bench.run import KEY_TYPES
from tests.bench.scenarios import Scenario, scenarios

_REPOSITORY = Path(__file__).resolve().parents[2]
_EVERY_SCENARIO = [scenario for key_type in KEY_TYPES for scenario in scenarios(key_type)]


def _numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


def _run_bench(*flags: str) -> list[str]:
    command = [sys.executable, "-m", "tests.bench.run", *flags]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def printed() -> list[str]:
    return _run_bench("--quick")


@pytest.mark.parametrize("scenario", _EVERY_SCENARIO, ids=lambda scenario: scenario.name)
def test_the_bench_prints_a_row_of_positive_numbers_for_every_scenario(scenario: Scenario, printed: list[str]) -> None:
    (row,) = (line for line in printed if line.startswith(scenario.name))
    numbers = _numbers(row[len(scenario.name) :])
    assert len(numbers) == (8 if scenario.aim else 7)
    assert all(number > 0 for number in numbers)


@pytest.mark.parametrize("what", ["start-up to ready", "resident memory when idle", "database per enrolment"])
def test_the_bench_says_what_the_server_costs_beside_cpu(what: str, printed: list[str]) -> None:
    (line,) = (line for line in printed if line.startswith(what))
    assert _numbers(line)[0] > 0


def test_the_ratios_of_a_row_are_medians_over_measurements_of_one_round() -> None:
    measured = Measured(
        _EVERY_SCENARIO[0],
        floor=[1.0, 2.0, 1.0],
        bare=[2.0, 4.0, 1.0],
        kipuka=[3.0, 6.0, 9.0],
        busy=[1.0] * 3,
        per_second=[300.0] * 3,
    )
    assert measured.row()[1:7] == ("1.000", "2.000", "6.000", "3.00", "4", "1.50")


def test_the_profile_names_the_threads_and_the_rooms_where_the_time_goes() -> None:
    printed = _run_bench("--quick", "--profile")
    shown = {line.partition("%")[2].strip() for line in printed if "%" in line}
    assert {"MainThread", "kipuka-store-writer", "domain", "wire", "plugins", "events and log", "cryptography"} <= shown


def test_a_profile_gives_the_time_of_a_library_function_to_the_room_that_called_it() -> None:
    stats = pstats.Stats()
    plugin = ("/x/plugins/kipuka_builtin/names.py", 1, "decide")
    library = ("/usr/lib/python3/re.py", 1, "match")
    built_in = ("~", 0, "<method 'match' of 're.Pattern' objects>")
    stats.stats = {  # type: ignore[attr-defined]  # its stub lacks it
        plugin: (1, 1, 1.0, 4.0, {}),
        library: (1, 1, 1.0, 3.0, {plugin: (1, 1, 1.0, 3.0)}),
        built_in: (1, 1, 2.0, 2.0, {library: (1, 1, 2.0, 2.0)}),
    }
    assert shares(stats) == {"plugins": 4_000_000}


def test_cryptography_is_a_room_of_its_own_in_a_profile() -> None:
    assert room_of(("~", 0, "<built-in method cryptography.hazmat.bindings._rust.x509.load_der_x509_csr>")) == (
        "cryptography"
    )


@pytest.mark.long
def test_the_bench_of_searches_has_every_filter_and_the_memory() -> None:
    command = [sys.executable, "-m", "tests.bench.search", "--count", "20000", "--json"]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"everything", "ca_id", "label", "status=revoked", "subject=prefix*"} <= set(found["ratios"])
    assert all(first > 0 for first, _ in found["ratios"].values())
    assert all(kib > 0 for kib in found["memory_kib"])
