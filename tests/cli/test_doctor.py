"""``kipuka doctor`` on deployments that are sound, served and broken: each broken thing is a finding with a remedy."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.testing.pki import key_pem, make_key, make_root
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, make_deployment, running_server
from tests.startup.starting import in_process, pem, write_server

LONG_AGO = datetime.now(UTC) - timedelta(days=400)
OF_THE_MACHINE = ("clock is not synchronised", "open files is less than", "the disk of", "runs as root")
"""What depends on where the tests run."""


@dataclass(frozen=True, slots=True)
class Report:
    """What ``kipuka doctor --json`` said."""

    code: int
    sections: dict[str, list[tuple[str, str]]]
    findings: list[dict[str, str]]

    def facts(self, section: str, name: str) -> list[str]:
        return [value for fact, value in self.sections[section] if fact == name]

    def of_level(self, level: str) -> list[str]:
        """The findings of this deployment, without those of the machine."""
        return [
            each["what"]
            for each in self.findings
            if each["level"] == level and not any(text in each["what"] for text in OF_THE_MACHINE)
        ]

    def found(self, *texts: str) -> dict[str, str]:
        """The one finding that says all of this."""
        (found,) = (each for each in self.findings if all(text in each["what"] for text in texts))
        assert found["remedy"]
        assert "\n" not in found["what"] + found["remedy"]
        return found


def doctor(deployment: Deployment) -> Report:
    outcome = in_process("doctor", "--json", "-c", str(deployment.toml))
    assert outcome.stderr == ""
    said: dict[str, Any] = json.loads(outcome.stdout)
    sections = {
        section["title"]: [(fact["name"], fact["value"]) for fact in section["facts"]] for section in said["sections"]
    }
    report = Report(outcome.code, sections, said["findings"])
    assert report.code == any(each["level"] == "error" for each in report.findings)
    return report


# -- sound -----------------------------------------------------------------------------------------------------------
def test_a_fresh_deployment_has_no_error_and_one_warning_of_its_own(tmp_path: Path) -> None:
    report = doctor(make_deployment(tmp_path))

    assert report.of_level("error") == []
    (warning,) = report.of_level("warning")
    assert "admin.client_auth: nobody has an admin credential" in warning


def test_the_facts_are_those_of_the_machine_and_the_deployment(tmp_path: Path) -> None:
    report = doctor(make_deployment(tmp_path))

    assert report.facts("Versions", "OpenSSL for TLS") == [ssl.OPENSSL_VERSION]
    assert report.facts("Versions", "hypercorn") == [version("hypercorn")]
    assert report.facts("Versions", "kipuka") == [version("kipuka")]
    assert report.facts("Channel binding", "exporter self-test") == ["passed"]
    kernel = Path("/proc/sys/crypto/fips_enabled")
    is_on = kernel.exists() and kernel.read_text().strip() == "1"
    assert report.facts("FIPS 140", "kernel") == ["on" if is_on else "off"]
    assert "client_auth optional" in report.facts("Listeners", "EST")[0]
    assert report.facts("Listeners", "EST TLS 1.3")[0] == "TLS_AES_256_GCM_SHA384"
    assert report.facts("Listeners", "EST TLS 1.2") == [
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ]
    assert "FIPS mode" in report.facts("Listeners", "ChaCha20")[0]
    names = {name for name, _ in report.sections["Certificates"]}
    assert names == {"tls.cert", "tls.client_auth.trust_anchors", "ca[0].cert", "ca[0].chain"}
    assert "days left" in report.facts("Certificates", "tls.cert")[0]
    assert report.facts("Permissions", "tls.key")[0].startswith(f"{tmp_path}/tls/server.key, 0600 ")
    assert report.facts("Server", "server") == ["not running"]
    assert report.facts("Check", "kipuka check") == ["passes"]


def test_the_text_shows_facts_then_findings_with_what_to_do(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    (tmp_path / "tls" / "server.key").chmod(0o644)

    lines = in_process("doctor", "-c", str(deployment.toml)).stdout.splitlines()

    key = tmp_path / "tls" / "server.key"
    at = lines.index(f"warning: {key} (tls.key): mode 0644 lets others use it")
    assert lines[at + 1] == f"  do: chmod 0600 {key}"
    assert lines.index("Findings") < at
    assert not any("Traceback" in line for line in lines)


def test_the_command_works_as_a_process_and_without_a_configuration(tmp_path: Path) -> None:
    done = make_deployment(tmp_path).kipuka("doctor", KIPUKA_CONFIG=str(tmp_path / "nowhere.toml"), check=False)

    assert done.returncode == 1
    assert "nowhere.toml: cannot be read: No such file or directory\n  do: " in done.stdout
    assert f"OpenSSL for TLS                  {ssl.OPENSSL_VERSION}\n" in done.stdout
    assert done.stderr == ""


def test_a_running_server_is_recognised_by_its_control_socket(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    with running_server(deployment) as server:
        text = deployment.toml.read_text().replace('"127.0.0.1:0"', f'"127.0.0.1:{server.est_port}"', 1)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            free = other.getsockname()[1]
        text = text.replace("[server]\n", '[server]\nhttp_listen = "127.0.0.1:0"\n')
        deployment.toml.write_text(text.replace('admin_listen = "127.0.0.1:0"', f'admin_listen = "127.0.0.1:{free}"'))

        report = doctor(deployment)

        assert report.facts("Server", "server") == [f"process {server.process.pid}, user id {os.geteuid()}"]
        assert "by the kipuka that runs" in report.facts("Ports", "server.listen")[0]
        assert report.facts("Ports", "server.http_listen") == ["127.0.0.1:0: any free port"]
        found = report.found("server.admin_listen", "does not listen on")
        assert (found["level"], "restart" in found["remedy"]) == ("warning", True)
        assert report.of_level("error") == []


# -- broken ----------------------------------------------------------------------------------------------------------
def tls(deployment: Deployment, name: str) -> Path:
    return deployment.directory / "tls" / name


def ca(deployment: Deployment, name: str) -> Path:
    return deployment.directory / "state" / "ca" / name


def with_listen(deployment: Deployment, address: str) -> None:
    deployment.toml.write_text(deployment.toml.read_text().replace('"127.0.0.1:0"', f'"{address}"', 1))


def with_expired_anchor(deployment: Deployment) -> None:
    old = make_root(days=1).leaf("an old CA", ca=True, not_before=LONG_AGO)
    (deployment.directory / "anchors.pem").write_bytes(pem(old.certificate))
    deployment.configure("", client_auth='trust_anchors = "anchors.pem"\n')


def in_the_future(path: Path) -> None:
    later = datetime.now(UTC).timestamp() + 86400
    os.utime(path, (later, later))


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that is wrong with a deployment; what the doctor says of it, and what to do."""

    name: str
    make: Callable[[Deployment], object]
    level: str
    says: tuple[str, ...]
    remedy: str


CASES = [
    Broken(
        "no server certificate",
        lambda it: tls(it, "server.pem").unlink(),
        "error",
        ("tls.cert", "server.pem", "does not exist"),
        "put the file there",
    ),
    Broken(
        "no server key",
        lambda it: tls(it, "server.key").unlink(),
        "error",
        ("tls.key", "server.key", "no such file"),
        "put the file there",
    ),
    Broken(
        "another key",
        lambda it: write_private(tls(it, "server.key"), key_pem(make_key())),
        "error",
        ("tls: ", "server.key", "is not the key of the first certificate"),
        "kipuka check",
    ),
    Broken(
        "an expired server certificate",
        lambda it: write_server(it, make_root().leaf("localhost", not_before=LONG_AGO)),
        "error",
        ("server.pem", "expired on"),
        "kipuka tls csr",
    ),
    Broken(
        "a server certificate without usages",
        lambda it: write_server(it, make_root().leaf("localhost", ("dns:localhost",), eku=())),
        "warning",
        ("server.pem", "id-kp-cmcRA"),
        "kipuka tls csr --host localhost",
    ),
    Broken(
        "no CA key",
        lambda it: ca(it, "issuing.key").unlink(),
        "error",
        ("ca[0].key", "issuing.key", "no such file"),
        "put the file there",
    ),
    Broken(
        "no CA certificate",
        lambda it: ca(it, "issuing.pem").unlink(),
        "error",
        ("ca[0].cert", "issuing.pem", "does not exist"),
        "put the file there",
    ),
    Broken(
        "garbage as CA certificate",
        lambda it: ca(it, "issuing.pem").write_text("garbage"),
        "error",
        ("ca[0].cert", "issuing.pem", "holds no PEM certificate"),
        "kipuka check",
    ),
    Broken(
        "an expired trust anchor",
        with_expired_anchor,
        "error",
        ("tls.client_auth.trust_anchors", "CN=an old CA", "ended on"),
        "replace",
    ),
    Broken(
        "a key for all to read",
        lambda it: ca(it, "issuing.key").chmod(0o644),
        "warning",
        ("ca[0].key", "mode 0644 lets others use it"),
        "chmod 0600",
    ),
    Broken(
        "a key for all to write",
        lambda it: ca(it, "issuing.key").chmod(0o666),
        "error",
        ("ca[0].key", "mode 0666 lets others use it"),
        "chmod 0600",
    ),
    Broken(
        "a configuration for all to write",
        lambda it: it.toml.chmod(0o666),
        "error",
        ("kipuka.toml", "mode 0666 lets others change it"),
        "chmod 0644",
    ),
    Broken(
        "a trust anchor for all to write",
        lambda it: it.root_pem.chmod(0o646),
        "error",
        ("root.pem", "mode 0646 lets others change it"),
        "chmod 0644",
    ),
    Broken(
        "a directory for all to write",
        lambda it: (it.directory / "tls").chmod(0o777),
        "error",
        ("/tls: mode 0777 lets others put other files",),
        "chmod 0755",
    ),
    Broken(
        "a key of somebody else",
        lambda it: os.chown(tls(it, "server.key"), 4711, 4711),
        "warning",
        ("server.key", "belongs to 4711"),
        "chown",
    ),
    Broken(
        "a key that the owner of state_dir cannot read",
        lambda it: os.chown(it.directory / "state", 4711, 4711),
        "error",
        ("server.key", "cannot be read by 4711"),
        "chown 4711",
    ),
    Broken(
        "the database's password for all to read",
        lambda it: it.configure('[db]\nurl = "postgresql://kipuka:secret-word@127.0.0.1:1/kipuka"\n'),
        "warning",
        ("kipuka.toml", "lets others read the database's password"),
        "chmod 0640",
    ),
    Broken(
        "broken TOML",
        lambda it: it.toml.write_text("[server\n"),
        "error",
        ("kipuka.toml", "line 1"),
        "kipuka.toml",
    ),
    Broken(
        "a misspelt key",
        lambda it: it.configure("[enrolment]\n"),
        "error",
        ("enrolment", "enrollment"),
        "kipuka.toml",
    ),
    Broken(
        "an address of another machine",
        lambda it: with_listen(it, "192.0.2.1:8443"),
        "error",
        ("server.listen: 192.0.2.1:8443 is not an address of this host",),
        "ip address",
    ),
    Broken(
        "no state_dir",
        lambda it: it.toml.write_text(it.toml.read_text().replace('"state"', '"elsewhere"')),
        "error",
        ("server.state_dir", "elsewhere is not there"),
        "kipuka init",
    ),
    Broken(
        "a clock that is behind",
        lambda it: in_the_future(it.toml),
        "error",
        ("the clock is behind", "kipuka.toml"),
        "set the clock",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_broken_is_a_finding_with_a_remedy(case: Broken, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    case.make(deployment)

    report = doctor(deployment)

    found = report.found(*case.says)
    assert found["level"] == case.level
    assert case.remedy in found["remedy"]
    assert "this check itself failed" not in str(report.findings)
    assert "secret-word" not in str(report)


def test_several_broken_things_are_all_found(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    tls(deployment, "server.pem").unlink()
    ca(deployment, "issuing.key").unlink()
    ca(deployment, "root.pem").write_text("garbage")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with_listen(deployment, f"127.0.0.1:{taken.getsockname()[1]}")

        report = doctor(deployment)

    for says in (
        ("tls.cert", "server.pem"),
        ("ca[0].key", "issuing.key"),
        ("ca[0].chain", "root.pem"),
        ("server.listen", "is in use by another program"),
    ):
        assert report.found(*says)["level"] == "error"


def test_strict_permissions_makes_an_error_of_a_readable_key(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure("", server="strict_permissions = true")
    tls(deployment, "server.key").chmod(0o640)

    assert doctor(deployment).found("tls.key", "mode 0640")["level"] == "error"


def test_password_and_users_files_are_looked_at_too(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    for name, mode in (("tls.password", 0o640), ("ca.password", 0o604), ("users", 0o644)):
        (tmp_path / name).write_text("not a secret\n")
        (tmp_path / name).chmod(mode)
    deployment.configure(
        '[auth]\norder = ["basic"]\n[auth.basic]\nusers_file = "users"\n'
        '[[ca]]\nid = "one"\ncert = "state/ca/issuing.pem"\nchain = "state/ca/root.pem"\n'
        'key = "file:state/ca/issuing.key?password-file=ca.password"\n'
    )
    text = deployment.toml.read_text()
    deployment.toml.write_text(text.replace("[tls]\n", '[tls]\nkey_password_file = "tls.password"\n'))

    report = doctor(deployment)

    assert report.found("tls.key_password_file", "mode 0640")["remedy"] == f"chmod 0600 {tmp_path / 'tls.password'}"
    assert report.found("ca[0].key (password-file)", "mode 0604")["level"] == "warning"
    assert report.found("auth.basic.users_file", "mode 0644")["remedy"] == f"chmod 0640 {tmp_path / 'users'}"
    assert report.facts("Permissions", "ca[0].key")[0].startswith(f"{tmp_path}/state/ca/issuing.key, 0600 ")
