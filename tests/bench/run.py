"""``make bench``: server CPU per request beside the bare cryptography of the same operation, measured in one run.

``--quick`` shows that every row can be measured, not what it costs. ``--profile`` says where the time goes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kipuka_core.model.key_type import KeyType
from tests.bench.cores import Cores, available_cores, running_on
from tests.bench.profile_road import profile
from tests.bench.report import Footprint, Measured, notes, table
from tests.bench.scenarios import USER, Floor, Scenario, scenarios
from tests.bench.servers import Target, bare, generate, kipuka, prepare, usage, warm_up

KEY_TYPES = (KeyType.ECDSA256, KeyType.RSA2048)
_CSRS_PER_SECOND = 2000
_MAX_USES = "1000000"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int = 3
    floor_seconds: float = 0.4
    warmup_seconds: float = 0.5
    seconds: float = 1.8
    requests: int | None = None
    """Measure so many requests instead of so many seconds."""

    @property
    def flags(self) -> list[str]:
        """For the generator."""
        return ["-n", str(self.requests)] if self.requests else ["-d", f"{self.seconds:g}s"]

    @property
    def different_csrs(self) -> int:
        """More than any server answers in one run."""
        if self.requests:
            return 4 * self.requests + 100
        return round(_CSRS_PER_SECOND * (self.warmup_seconds + self.seconds))


QUICK = Effort(rounds=1, floor_seconds=0.05, warmup_seconds=0.05, requests=40)


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers of one key type, and what is measured on them."""

    effort: Effort
    cores: Cores
    floor: Floor
    token: str
    bare: Target
    kipuka: Target

    def measure(self, scenario: Scenario) -> Measured:
        """All rounds of one row: floor, bare and kipuka take turns, so that noise meets them alike."""
        measured = Measured(scenario)
        for number in range(self.effort.rounds):
            measured.floor.append(self._floor(scenario))
            measured.bare.append(self._loaded(self.bare, scenario, number)["server_ms_per_req"])
            result = self._loaded(self.kipuka, scenario, number)
            measured.kipuka.append(result["server_ms_per_req"])
            measured.busy.append(result["server_cpu"])
            measured.per_second.append(result["rps"])
        return measured

    def _floor(self, scenario: Scenario) -> float:
        with running_on(self.cores.server):
            return self.floor.milliseconds(scenario, self.effort.floor_seconds)

    def _loaded(self, target: Target, scenario: Scenario, number: int) -> dict[str, float]:
        flags = scenario.flags(self.token, f"run-{number}", self.effort.different_csrs)
        effort = self.effort
        return generate(target, flags, self.cores, warmup=effort.warmup_seconds, measured=effort.flags)


def measure(effort: Effort, cores: Cores, say: Callable[[str], None]) -> tuple[list[Measured], list[Footprint]]:
    """Every scenario of every key type."""
    rows: list[Measured] = []
    footprints: list[Footprint] = []
    for key_type in KEY_TYPES:
        with tempfile.TemporaryDirectory(prefix="kipuka-bench-") as directory:
            deployment = prepare(Path(directory) / "deployment", key_type)
            wanted = scenarios(key_type)
            one_time = any(scenario.one_time for scenario in wanted)
            token = deployment.otp(USER, "--max-usage", _MAX_USES) if one_time else ""
            with kipuka(deployment, cores) as (_, target, ready), bare(deployment, cores) as bare_target:
                before = usage(deployment, target)
                warm_up(target, cores)
                bench = Bench(effort, cores, Floor(deployment, key_type), token, bare_target, target)
                for scenario in wanted:
                    say(f"measuring: {scenario.name}")
                    rows.append(bench.measure(scenario))
                footprints.append(Footprint(ready, before, usage(deployment, target)))
    return rows, footprints


def main(arguments: Iterable[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="do all the rows work? Not for figures")
    parser.add_argument("--profile", action="store_true", help="where the time goes, by room and by thread")
    options = parser.parse_args(None if arguments is None else list(arguments))
    cores = available_cores()
    effort = QUICK if options.quick else Effort()
    if options.profile:
        wanted = [scenario for scenario in scenarios(KeyType.ECDSA256) if not scenario.one_time]
        _print(profile(wanted[:1] if options.quick else wanted, cores, effort.flags))
        return 0
    rows, footprints = measure(effort, cores, lambda line: _print([line], sys.stderr))
    generator = os.environ.get("KIPUKA_LOAD_GENERATOR", "tests/bench/generator.py")
    _print(
        ["", *table(rows), "", *footprints[0].lines(), "", *notes(shared_core=cores.are_shared, generator=generator)]
    )
    return 0


def _print(lines: Iterable[str], stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
