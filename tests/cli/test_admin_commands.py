"""The commands for administrators, on the store and over the admin API: the same words, the same answers."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner
from cryptography import x509

from kipuka_core.cli import cli
from kipuka_core.errors import KipukaError
from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import make_csr, make_root
from kipuka_core.testing.samples import write_private
from tests.system.admin_kit import ANA, BEN
from tests.system.admin_site import OPERATOR, TOKENS, AdminSite, admin_site, hex_serial

WAYS = ("store", "token", "certificate")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminSite]:
    with admin_site(tmp_path_factory.mktemp("commands")) as running:
        write_private(running.system.deployment.directory / "token", f"{OPERATOR}\n".encode())
        yield running


@dataclass(frozen=True)
class Ran:
    """What a command did, as its process would have."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Commands:
    """``kipuka`` with the options of one way, in this process: starting one takes longer than what it does."""

    site: AdminSite
    options: list[str]
    actor: str
    way: str

    def run(self, *arguments: str, check: bool = True) -> Ran:
        done = run_here(self.site, *arguments, *self.options)
        assert not check or done.returncode == 0, done
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def refused(self, *arguments: str) -> str:
        done = self.run(*arguments, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("kipuka: error: ").rstrip()

    def facts(self, **query: str) -> list[dict[str, Any]]:
        found = self.site.facts(**query)
        assert {each["actor"] for each in found} == {self.actor}
        return found


def run_here(site: AdminSite, *arguments: str) -> Ran:
    """As :func:`kipuka_core.cli.main` runs it."""
    environment = TOKENS | {"KIPUKA_CONFIG": str(site.system.deployment.toml)}
    done = CliRunner().invoke(cli, arguments, prog_name="kipuka", env=environment)
    if isinstance(done.exception, KipukaError):
        return Ran(1, done.stdout, done.stderr + f"kipuka: error: {done.exception}\n")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def remote(site: AdminSite, *more: str) -> list[str]:
    root_pem = str(site.system.deployment.root_pem)
    return ["--url", f"https://localhost:{site.system.server.admin_port}", "--cacert", root_pem, *more]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands set up logging for a process of their own."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module", params=WAYS)
def commands(site: AdminSite, request: pytest.FixtureRequest) -> Commands:
    way = request.param
    if way == "store":
        return Commands(site, [], "cli", way)
    if way == "token":
        return Commands(
            site, remote(site, "--token-file", str(site.system.deployment.directory / "token")), "token:operator", way
        )
    certificate, key = write_leaf(ANA, site.system.deployment.directory)
    return Commands(site, remote(site, "--cert", str(certificate), "--key", str(key)), "CN=Ana,O=Example", way)


def test_passwords_are_made_listed_revoked_and_removed(commands: Commands) -> None:
    entity = f"otp-{commands.way}"
    done = commands.run("otp", "create", entity, "--ttl", "90m", "--max-usage", "2", "--label", "factory")
    token = done.stdout.strip()
    assert f"for '{entity}', until " in done.stderr
    assert commands.site.enrol(make_csr(common_name=entity), entity, token, "factory").status == 200
    rows = [line.split() for line in commands.run("otp", "list", "--entity", entity).stdout.splitlines()]
    assert rows[0] == ["ID", "ENTITY", "LABEL", "USED", "EXPIRES", "STATE"]
    (row,) = rows[1:]
    assert (row[1:4], row[-1]) == ([entity, "factory", "1/2"], "usable")
    assert commands.run("otp", "revoke", row[0]).stdout == f"revoked {row[0]}\n"
    assert commands.json("otp", "list", "--entity", entity) == []
    (ended,) = commands.json("otp", "list", "--entity", entity, "--all")
    assert ended["revoked_at"]
    assert commands.run("otp", "list", "--entity", entity, "--all").stdout.rstrip().endswith("revoked")
    assert "there is no one-time password with this id" in commands.refused("otp", "revoke", "none")
    assert commands.run("otp", "cleanup", "--older-than", "1d").stdout == "removed 0\n"
    assert {each["event"] for each in commands.facts(target=row[0])} == {"otp_created", "otp_revoked"}
    assert "there is no label" in commands.refused("otp", "create", "x", "--label", "none")
    assert commands.refused("otp", "create", "a:b").startswith("entity_id: ")


def test_a_batch_is_csv_in_and_csv_out(commands: Commands, tmp_path: Path) -> None:
    sheet = tmp_path / "in.csv"
    entities = [f"batch-{commands.way}-{number}" for number in range(3)]
    sheet.write_text("entity_id,max_usage\n" + "".join(f"{entity},2\n" for entity in entities), encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(commands.run("otp", "batch", str(sheet)).stdout)))
    assert [(row["entity_id"], row["max_usage"]) for row in rows] == [(entity, "2") for entity in entities]
    for row in rows:
        csr = make_csr(common_name=row["entity_id"])
        assert commands.site.enrol(csr, row["entity_id"], row["token"]).status == 200
    sheet.write_text("entity_id\nfine\na:b\n", encoding="utf-8")
    assert commands.refused("otp", "batch", str(sheet)).startswith("row 3: entity_id")
    for lines, words in (("x,none\n", "row 2: label: there is no"), ("x,\ny,none\n", "row 3: label: there is no")):
        sheet.write_text(f"entity_id,label\n{lines}", encoding="utf-8")
        assert commands.refused("otp", "batch", str(sheet)).startswith(words)
    assert commands.json("otp", "list", "--entity", "fine") == []


def test_certificates_are_found_shown_exported_revoked_and_released(commands: Commands, tmp_path: Path) -> None:
    entity = f"device-{commands.way}"
    leaf = commands.site.enrolled(entity, label="factory")
    serial = hex_serial(leaf)
    (found,) = commands.json("certs", "list", "--identity", entity)
    assert found["serial"] == serial
    filters = ("--subject", "device-*", "--label", "factory", "--ca", "default", "--expires-before", "9999d")
    listed = commands.run("certs", "list", *filters, "--expires-after", "-1d", "--status", "active").stdout
    assert serial in listed
    assert serial not in commands.run("certs", "list", "--expires-before", "2020-01-01").stdout
    assert f"identity:  {entity} (by otp)" in commands.run("certs", "show", serial.upper()).stdout
    pem = commands.run("certs", "show", serial, "--pem").stdout
    assert x509.load_pem_x509_certificate(pem.encode()) == leaf.certificate
    commands.run("certs", "export", serial, "--format", "chain", "-o", str(tmp_path / "chain.pem"))
    chain = x509.load_pem_x509_certificates((tmp_path / "chain.pem").read_bytes())
    assert chain == [leaf.certificate, commands.site.system.issuing_ca, commands.site.system.root_ca]
    assert commands.run("certs", "export", serial).stdout == pem

    assert commands.run("certs", "revoke", serial, "--reason", "certificateHold").stdout.startswith(f"revoked {serial}")
    assert commands.run("certs", "release", serial).stdout == f"released {serial} (CN={entity})\n"
    assert "only a certificate that is on hold" in commands.refused("certs", "release", serial)
    assert commands.json("certs", "revoke", serial, "--reason", "superseded")["status"] == "revoked"
    assert "reason:    superseded" in commands.run("certs", "show", serial).stdout
    again = commands.run("certs", "revoke", serial, "--reason", "keyCompromise").stdout
    assert again.startswith(f"revoked {serial} (CN={entity}) already at ")
    assert again.endswith(", for superseded, which stays\n")
    assert commands.refused("certs", "show", "1") == "no certificate has this serial number"
    assert "not in hex; search names by subject" in commands.refused("certs", "show", entity)
    names = [each["event"] for each in commands.facts(target=serial, actor=commands.actor.replace(" ", "%20"))]
    assert names == ["certificate_revoked", "certificate_released", "certificate_revoked"]


def test_what_is_found_is_revoked_after_a_look(commands: Commands) -> None:
    for number in range(3):
        commands.site.enrolled(f"recall-{commands.way}-{number}")
    search = ("certs", "revoke-found", "--subject", f"recall-{commands.way}-*")
    look = commands.run(*search)
    assert look.stdout.count(f"recall-{commands.way}-") == 6
    assert look.stderr == "would revoke 3; with --yes\n"
    assert commands.run(*search, "--reason", "keyCompromise", "--yes").stdout == "revoked 3\n"
    assert commands.json(*search, "--yes")["count"] == 0
    assert {each["status"] for each in commands.json("certs", "list", "--subject", search[-1])} == {"revoked"}
    assert "name at least one filter" in commands.refused("certs", "revoke-found", "--yes")


def test_requests_are_shown_approved_and_rejected(commands: Commands) -> None:
    site = commands.site
    waiting = {}
    for what in ("yes", "no"):
        entity = f"{what}-{commands.way}"
        csr, token = make_csr(common_name=entity), site.otp(entity)["token"]
        assert site.enrol(csr, entity, token, "slow").status == 202
        (found,) = [each for each in commands.json("requests", "list") if each["identity"] == entity]
        waiting[what] = (csr, entity, token, found["id"])
    csr, entity, token, request_id = waiting["yes"]
    assert request_id in commands.run("requests", "list").stdout
    shown = commands.run("requests", "show", request_id).stdout
    assert "  names:      allow" in shown
    assert "  approval:   wait an administrator has to approve this request" in shown
    assert "approval:     would issue:" in shown
    approved = commands.run("requests", "approve", request_id).stdout
    certificate = site.enrol(csr, entity, token, "slow").certificate()
    assert approved == f"approved {request_id}: certificate {certificate.serial_number:x}\n"
    assert "does not wait any more" in commands.refused("requests", "approve", request_id)

    csr, entity, token, request_id = waiting["no"]
    assert (
        commands.run("requests", "reject", request_id, "--reason", "who is this?").stdout == f"rejected {request_id}\n"
    )
    assert "who is this?" in site.enrol(csr, entity, token, "slow").text
    assert request_id in [each["id"] for each in commands.json("requests", "list", "--state", "refused")]
    assert commands.facts(event="request_decided", target=request_id)


def test_lockouts_are_listed_and_lifted(commands: Commands) -> None:
    entity = f"locked-{commands.way}"
    commands.site.lock_out(entity)
    assert entity in commands.run("lockouts", "list").stdout
    assert commands.run("lockouts", "lift", "127.0.0.1", entity).stdout == f"lifted 127.0.0.1 {entity}\n"
    assert entity not in commands.run("lockouts", "list").stdout
    assert "there is no such lockout now" in commands.refused("lockouts", "lift", "127.0.0.1", entity)
    assert commands.facts(event="lockout_lifted", target=entity)


def test_facts_are_listed(commands: Commands) -> None:
    entity = f"told-{commands.way}"
    commands.site.enrolled(entity)
    shown = commands.run("audit", "list", "--target", entity, "--since", "-1h").stdout
    assert "certificate_issued" in shown
    assert "otp_created" in shown
    found = commands.json("audit", "list", "--event", "otp_created", "--limit", "2")
    assert len(found["events"]) == 2
    assert found["total"] > 2
    assert commands.json("audit", "list", "--until", "2020-01-01") == {"events": [], "total": 0}


def test_a_list_goes_over_pages_and_says_what_it_leaves_out(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = commands.run("certs", "list", "--limit", "1")
    assert len(done.stdout.splitlines()) == 2
    assert "(1 of " in done.stderr


def test_a_way_that_does_not_work_is_one_line(site: AdminSite) -> None:
    deployment = site.system.deployment
    url = f"https://localhost:{site.system.server.admin_port}"
    certificate, key = write_leaf(BEN, deployment.directory)
    write_private(deployment.directory / "wrong", b"x" * 40)
    write_private(deployment.directory / "binary", b"\xff" * 40)
    stranger, its_key = write_leaf(make_root("Strange CA").leaf("stranger"), deployment.directory)
    for options, words in (
        (["--url", url], "--cacert has to hold the CA"),  # its CA is nobody's
        (
            remote(site, "--cert", str(stranger), "--key", str(its_key)),
            "is --cert by a CA of its [admin.client_auth] trust_anchors?",
        ),
        (
            ["--url", f"https://localhost:{site.system.server.est_port}", "--cacert", str(deployment.root_pem)],
            "answered 404 as the admin API does not; --url is the address of [server] admin_listen",
        ),
        (["--url", "https://localhost:1", "--cacert", str(deployment.root_pem)], "no answer"),
        (remote(site), "this needs the credential of an administrator: a client certificate or a bearer token"),
        (
            remote(site, "--token-file", str(deployment.directory / "wrong")),
            "the bearer token is not one of this server",
        ),
        (remote(site, "--token-file", "none"), "none: cannot be read as a token: No such file or directory"),
        (remote(site, "--token-file", str(deployment.directory / "binary")), "as a token: it is not ASCII"),
        (remote(site, "--cert", "none.pem"), "none.pem: cannot be used as --cert"),
        (["--url", url, "--cacert", "none.pem"], "none.pem: cannot be used as --cacert"),
        (remote(site, "--cert", str(certificate), "--key", str(key)), "a viewer may look and change nothing"),
    ):
        done = run_here(site, "otp", "create", "x", *options)
        assert (done.returncode, done.stdout) == (1, ""), options
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    for options, words in ((["--url", "http://localhost"], "https://"), (["--token-file", "token"], "--url")):
        done = run_here(site, "otp", "list", *options)
        assert done.returncode == 2
        assert words in done.stderr
    viewer = remote(site, "--cert", str(certificate), "--key", str(key))
    assert run_here(site, "certs", "list", *viewer).returncode == 0


def test_the_shell_completes_commands_and_options(site: AdminSite) -> None:
    done = site.system.deployment.kipuka(
        check=False, _KIPUKA_COMPLETE="bash_complete", COMP_WORDS="kipuka certs re", COMP_CWORD="2"
    )
    assert {"plain,revoke", "plain,release"} <= set(done.stdout.split())


def test_crls_are_shown_and_written_to_files(commands: Commands, tmp_path: Path) -> None:
    (shown,) = commands.json("crl", "show", "default")
    assert (shown["ca_id"], shown["state"]) == ("default", "current")
    assert commands.json("crl", "show") == [shown]
    out = tmp_path / "out.crl"
    assert commands.run("crl", "export", "--out", str(out)).stdout == ""
    crl = x509.load_der_x509_crl(out.read_bytes())
    assert crl.is_signature_valid(commands.site.system.issuing_ca.public_key())  # type: ignore[arg-type]  # no CA has X25519
    assert commands.run("crl", "export", "default", "--pem").stdout.startswith("-----BEGIN X509 CRL-----")
    assert "there is no CA" in commands.refused("crl", "show", "nowhere")


def test_a_crl_of_one_key_is_asked_of_the_store_only(site: AdminSite) -> None:
    done = run_here(site, "crl", "export", "--ca-key", "00", *remote(site))
    assert done.returncode == 2
    assert "--ca-key is for this machine's store" in done.stderr
