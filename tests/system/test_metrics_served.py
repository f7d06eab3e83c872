"""``/admin/metrics`` of a running server: over several processes, over their deaths, and while a sink fails."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kipuka_core.edges.metrics.catalogue import COUNTED, SAMPLED, Kind
from kipuka_core.measuring import ASKED
from kipuka_core.testing.client import basic
from kipuka_core.testing.pki import make_csr, make_root
from kipuka_core.testing.server import wait_until
from tests.system.admin_kit import ADMIN_CA, ANA, admin, json_of
from tests.system.system_kit import PKCS10, System, deploy, serving

pytestmark = pytest.mark.long

TOML = """
[admin]
viewers = ["CN=Ana,O=Example"]
[admin.client_auth]
mode = "optional"
trust_anchors = "admin-ca.pem"
[[est.label]]
name = "factory"
[[audit.sink]]
path = "log/audit.jsonl"
"""
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("measured") / "deployment"
    deployment = deploy(directory, TOML, workers=2)
    (directory / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    (directory / "log").mkdir()
    with serving(deployment) as running:
        yield running


def page(system: System) -> str:
    answer = admin(system, leaf=ANA).request("GET", "metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text


def read(system: System) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page(system))
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


def issued(samples: Samples) -> float:
    return value(
        samples, "kipuka_enrolments_total",
        label="factory", ca="default", authenticator="otp", operation="simpleenroll", outcome="issued",
    )  # fmt: skip


def test_the_page_is_for_administrators(system: System) -> None:
    assert json_of(admin(system).request("GET", "metrics"), 401)["error"] == "unauthorized"


def test_the_page_has_every_metric(system: System) -> None:
    text = page(system)
    for metric in (*COUNTED, *SAMPLED, *ASKED):
        shown = f"{metric.name}_total" if metric.kind is Kind.COUNTER else metric.name
        assert f"# TYPE {shown} {metric.kind}\n" in text


def test_enrolments_of_all_processes_are_counted_over_the_death_of_each(system: System) -> None:
    before = read(system)
    for number in range(10):
        system.enrolled(f"counted-{number}", label="factory")
    wait_until(lambda: issued(read(system)) == issued(before) + 10)
    pids = system.server.worker_pids()
    for name in ("est-1", "est-2", "admin"):
        os.kill(pids[name], signal.SIGKILL)
    wait_until(lambda: all(system.server.worker_pids()[name] != pid for name, pid in pids.items()))
    assert issued(read(system)) == issued(before) + 10
    system.enrolled("counted-after", label="factory")
    wait_until(lambda: issued(read(system)) == issued(before) + 11)
    wait_until(lambda: value(read(system), "kipuka_processes", listener="est") == 2)


def test_what_there_is_is_counted_in_the_store(system: System) -> None:
    device = system.enrolled("stocked", label="factory")
    system.otp("waits")
    samples = read(system)
    wait_until(lambda: value(read(system), "kipuka_otp_uses_total") >= 1)
    assert value(samples, "kipuka_build_info", version="0.1.0") == 1
    assert (
        value(samples, "kipuka_ca_not_after_seconds", ca="default") > device.certificate.not_valid_after_utc.timestamp()
    )
    assert value(samples, "kipuka_part_up", part="database") == 1
    assert value(samples, "kipuka_part_up", part="ca default") == 1
    assert value(samples, "kipuka_part_up", part="keys file") == 1
    assert value(samples, "kipuka_part_up", part="audit jsonl") == 1
    for step in ("authenticate", "prove", "recall", "reserve", "judge", "sign", "announce", "record"):
        assert value(samples, "kipuka_step_seconds_count", step=step) >= 1


def test_refusals_and_handshakes_are_counted_by_cause_and_by_nothing_of_the_client(system: System) -> None:
    secret = "made-up-by-a-client"
    assert system.client().request("GET", f"{secret}/cacerts").status == 404
    headers = {**PKCS10, "Authorization": basic(secret, secret)}
    assert system.client().request("POST", "factory/simpleenroll", make_csr(common_name=secret), headers).status == 401
    with pytest.raises((ssl.SSLError, ConnectionError)):
        system.client(make_root("Nobody").leaf(secret)).request("GET", "cacerts")

    def are_counted() -> bool:
        samples = read(system)
        return (
            value(samples, "kipuka_handshakes_failed_total", listener="est", cause="unknown_ca") >= 1
            and value(samples, "kipuka_refusals_total", label="(unknown)", operation="cacerts", code="unknown_label")
            == 1
            and value(samples, "kipuka_http_responses_total", operation="simpleenroll", status="401") == 1
        )

    wait_until(are_counted)
    text = page(system)
    assert secret not in text
    assert "127.0.0.1" not in text


def test_an_audit_sink_that_fails_shows_and_makes_the_server_not_ready(system: System) -> None:
    log: Path = system.deployment.directory / "log"
    assert json_of(admin(system).request("GET", "health/ready"), 200)["failing"] == []
    away = log.rename(system.deployment.directory / "away")
    token = system.otp("unheard")
    answer = system.client().enrol(make_csr(common_name="unheard"), user="unheard", password=token)
    assert answer.status == 503
    wait_until(lambda: admin(system).request("GET", "health/ready").status == 503)
    assert json_of(admin(system).request("GET", "health/ready"), 503)["failing"] == ["audit jsonl"]
    assert json_of(admin(system, leaf=ANA).request("GET", "health"), 503)["status"] == "unhealthy"
    wait_until(lambda: value(read(system), "kipuka_audit_sink_failures_total", sink="jsonl") >= 1)
    assert value(read(system), "kipuka_part_up", part="audit jsonl") == 0
    away.rename(log)
    wait_until(lambda: admin(system).request("GET", "health/ready").status == 200)
    assert (
        len(system.client().enrol(make_csr(common_name="unheard"), user="unheard", password=token).certificates()) == 1
    )
