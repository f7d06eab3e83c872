"""TLS scanners of others, run as programs, and their findings as values; a missing one fails with what to install."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Leaf
from tests.interop.programs import run

OLD_VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
_SSLYZE_PYTHON = Path(__file__).parents[2] / ".venv-scanners" / "bin" / "python"
_SCAN_SECONDS = 550.0
_TESTSSL_CHECKS = (  # all but what simulates browsers; --cipher-per-proto: every suite with every version
    "--protocols", "--std", "--pfs", "--server-preference", "--server-defaults", "--header", "--vulnerable",
    "--cipher-per-proto",
)  # fmt: skip
_SSLYZE_COMMANDS = ("--early_data", "--resum")  # beside those that every profile of Mozilla's needs
_PROFILE_RESULT = re.compile(r"^    (\S+): (?:OK|FAILED|ERROR) - .*\n((?:        \* .*\n)*)", re.MULTILINE)
_ISSUE = re.compile(r"^        \* (\w+): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SslyzeScan:
    """What sslyze found on one port."""

    report: dict[str, Any]
    profile_issues: frozenset[str]
    """What deviates from the profile of Mozilla's that was asked."""
    client_auth: str
    """``DISABLED``, ``OPTIONAL`` or ``REQUIRED``."""

    def found(self, path: str) -> Any:
        """A result by scan command and field: ``heartbleed.is_vulnerable_to_heartbleed``; the scan was complete."""
        command, *fields = path.split(".")
        scan = self.report["scan_result"][command]
        assert scan["status"] == "COMPLETED", (command, scan["error_reason"], scan["error_trace"])
        return reduce(lambda value, field: value[field], fields, scan["result"])

    def offers(self, version: str) -> bool:
        """Whether the server speaks ``tls_1_2`` (or another version) at all."""
        return bool(self.found(f"{version}_cipher_suites.is_tls_version_supported"))

    def suites(self, version: str) -> set[str]:
        """The IANA names of the suites that the server accepts with a version."""
        accepted = self.found(f"{version}_cipher_suites.accepted_cipher_suites")
        return {each["cipher_suite"]["name"] for each in accepted}


def scan_by_sslyze(
    ports: Sequence[int], ca_file: Path, directory: Path, *, profile: str, leaf: Leaf | None = None
) -> list[SslyzeScan]:
    """Scan ports of localhost, with a client certificate if there is one; ``profile`` is one of Mozilla's."""
    words: list[str | Path] = ["--certinfo_ca_file", ca_file, "--mozilla_config", profile, *_SSLYZE_COMMANDS]
    without_certificate = None
    if leaf is not None:
        certificate, key = write_leaf(leaf, directory)
        words += ["--cert", certificate, "--key", key]
        # Whether a certificate is asked for can be seen by a client that has none.
        without_certificate, _ = _sslyze(ports, directory / "without-certificate.json", "--compression")
    scans, output = _sslyze(ports, directory / f"{profile}.json", *words)
    issues = {target: frozenset(_ISSUE.findall(text)) for target, text in _PROFILE_RESULT.findall(output)}
    probes = without_certificate or scans
    return [
        SslyzeScan(
            scans[port], issues[f"localhost:{port}"], probes[port]["connectivity_result"]["client_auth_requirement"]
        )
        for port in ports
    ]


def _sslyze(ports: Sequence[int], report: Path, *words: str | Path) -> tuple[dict[int, dict[str, Any]], str]:
    """Run sslyze; its report by port, and what it printed."""
    if not _SSLYZE_PYTHON.exists():
        pytest.fail("the scanner sslyze is missing: run tests/interop/install-scanners")
    targets = [f"localhost:{port}" for port in ports]
    done = run(
        # With --slow_connection it opens few connections at once, so that a busy machine changes nothing.
        _SSLYZE_PYTHON, "-m", "sslyze", "--quiet", "--slow_connection", *words, "--json_out", report, *targets,
        check=False,  # another code than 0 says that a server deviates from the profile
        seconds=_SCAN_SECONDS,
    )  # fmt: skip
    output = done.stdout.decode() + done.stderr.decode()
    assert report.exists(), output
    results = json.loads(report.read_text(encoding="utf-8"))["server_scan_results"]
    scans = {scan["server_location"]["port"]: scan for scan in results}
    for scan in scans.values():
        assert scan["scan_status"] == "COMPLETED", scan["connectivity_error_trace"]
    return scans, output


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of testssl.sh's report."""

    id: str
    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What testssl.sh found on one port."""

    all: tuple[Finding, ...]

    def __getitem__(self, finding_id: str) -> str:
        """The text of the one finding of this id."""
        (text,) = (each.text for each in self.all if each.id == finding_id)
        return text

    def suites(self, version: str) -> list[str]:
        """IANA names of the suites that were accepted with ``tls1_2`` or another version."""
        return [each.text.split()[-1] for each in self.all if each.id.startswith(f"cipher-{version}_x")]


def scan_by_testssl(port: int, ca_file: Path, directory: Path, *, path: str) -> Findings:
    """Scan a port of localhost with testssl.sh, which judges the HTTP answer of ``path`` too. Takes a minute."""
    report = directory / f"testssl-{port}.json"
    done = run(
        # Without a terminal and offline.
        "testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1",
        *_TESTSSL_CHECKS, "--add-ca", ca_file, "--jsonfile", report, f"https://localhost:{port}{path}",
        cwd=directory,
        check=False,  # its exit code counts findings
        seconds=_SCAN_SECONDS,
    )  # fmt: skip
    assert report.exists(), done.stdout.decode() + done.stderr.decode()
    lines = json.loads(report.read_text(encoding="utf-8"))
    findings = Findings(tuple(Finding(line["id"], line["severity"], line["finding"]) for line in lines))
    assert findings["scanTime"].isdigit(), "the scan was not complete"
    return findings
