"""Figures of processes: counted, written down, taken over by who takes a process's place, summed on the page."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kipuka_core.edges.metrics import catalogue
from kipuka_core.edges.metrics.catalogue import COUNTED, SAMPLED, Kind, Metric
from kipuka_core.edges.metrics.counters import Counters, Sample, fresh_directory
from kipuka_core.edges.metrics.meter import CountingMeter
from kipuka_core.edges.metrics.page import Family, MetricsPage
from kipuka_core.model.event import (
    AdminRefused,
    CertificateIssued,
    ClientLockedOut,
    EnrolmentRefused,
    EnrolmentReplayed,
    EnrolmentWaiting,
)
from kipuka_core.testing.samples import NOW, sample_label

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def read(counters: Counters, *collect: Any) -> Samples:
    page = MetricsPage(counters)
    for each in collect:
        page.add(each)
    text, content_type = await page.text()
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = fresh_directory(tmp_path, is_shared=False)
    assert made is not None
    return made


async def test_the_figures_of_processes_are_summed(directory: Path) -> None:
    slots = [Counters(directory, name) for name in ("est-1", "est-2", "admin")]
    for number, counters in enumerate(slots, 1):
        counters.add(catalogue.OTP_USES.name, (), number)
        counters.observe(catalogue.STEP_SECONDS.name, ("sign",), 0.003)
        counters.observe(catalogue.STEP_SECONDS.name, ("sign",), 99.0)

        async def sampler(counters: Counters = counters) -> list[Sample]:
            return [(catalogue.STORE_QUEUE, ("writer",), 2.0)]

        counters.sample(sampler)
        await counters.write()
    samples = await read(slots[2])
    assert value(samples, "kipuka_otp_uses_total") == 6
    assert value(samples, "kipuka_store_queue", queue="writer") == 6
    assert value(samples, "kipuka_step_seconds_count", step="sign") == 6
    assert value(samples, "kipuka_step_seconds_bucket", step="sign", le="0.0025") == 0
    assert value(samples, "kipuka_step_seconds_bucket", step="sign", le="0.005") == 3
    assert value(samples, "kipuka_step_seconds_bucket", step="sign", le="10.0") == 3
    assert value(samples, "kipuka_step_seconds_bucket", step="sign", le="+Inf") == 6
    total = value(samples, "kipuka_step_seconds_sum", step="sign")
    assert total is not None
    assert abs(total - 3 * 99.003) < 1e-6


async def test_a_duration_on_a_bound_belongs_to_its_bucket(directory: Path) -> None:
    counters = Counters(directory, "est-1")
    counters.observe(catalogue.STEP_SECONDS.name, ("judge",), 0.005)
    samples = await read(counters)
    assert value(samples, "kipuka_step_seconds_bucket", step="judge", le="0.005") == 1
    assert value(samples, "kipuka_step_seconds_bucket", step="judge", le="0.0025") == 0


async def test_whoever_takes_a_process_s_place_goes_on_counting(directory: Path) -> None:
    first = Counters(directory, "est-1")
    first.add(catalogue.OTP_USES.name, (), 3)
    first.observe(catalogue.STEP_SECONDS.name, ("sign",), 0.1)
    await first.write()
    second = Counters(directory, "est-1")
    second.add(catalogue.OTP_USES.name)
    second.observe(catalogue.STEP_SECONDS.name, ("sign",), 0.1)
    samples = await read(second)
    assert value(samples, "kipuka_otp_uses_total") == 4
    assert value(samples, "kipuka_step_seconds_count", step="sign") == 2


async def test_how_a_process_was_is_forgotten_when_it_is_gone_and_what_it_counted_is_not(directory: Path) -> None:
    gone, here = Counters(directory, "est-1"), Counters(directory, "admin")

    async def one_process() -> list[Sample]:
        return [(catalogue.PROCESSES, ("est",), 1.0)]

    gone.sample(one_process)
    gone.add(catalogue.OTP_USES.name)
    await gone.write()
    assert value(await read(here), "kipuka_processes", listener="est") == 1
    file = directory / "est-1.json"
    figures = json.loads(file.read_text())
    file.write_text(json.dumps(figures | {"at": time.time() - 60}))
    samples = await read(here)
    assert value(samples, "kipuka_processes", listener="est") is None
    assert value(samples, "kipuka_otp_uses_total") == 1


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"at": 1, "counts": 3}', "\0" * 100])
async def test_a_damaged_file_is_passed_over(directory: Path, content: str) -> None:
    (directory / "est-1.json").write_text(content)
    counters = Counters(directory, "est-1")
    counters.add(catalogue.OTP_USES.name)
    assert value(await read(Counters(directory, "admin")), "kipuka_otp_uses_total") == 0
    assert value(await read(counters), "kipuka_otp_uses_total") == 1


async def test_a_directory_that_cannot_be_written_costs_the_figures_of_others_only(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    assert fresh_directory(tmp_path, is_shared=False) is None
    counters = Counters(None, "admin")
    counters.add(catalogue.OTP_USES.name)
    assert value(await read(counters), "kipuka_otp_uses_total") == 1
    missing = Counters(tmp_path / "missing", "admin")
    missing.add(catalogue.OTP_USES.name)
    await missing.write()


def test_a_server_that_starts_begins_at_zero_and_leaves_another_server_s_figures_alone(tmp_path: Path) -> None:
    first = fresh_directory(tmp_path, is_shared=False)
    assert first is not None
    (first / "est-1.json").write_text("{}")
    second = fresh_directory(tmp_path, is_shared=True)
    assert second not in {None, first}
    assert list(first.iterdir()) != []
    assert fresh_directory(tmp_path, is_shared=False) == first
    assert list(first.iterdir()) == []


async def test_a_collector_that_fails_is_left_out_and_others_are_not(directory: Path) -> None:
    own = Metric("kipuka_crl_number", Kind.GAUGE, "Of another part.", ("ca",))

    async def fails() -> list[Family]:
        raise OSError("away")

    async def works() -> list[Family]:
        return [Family(own, [(('a"b\\c\n',), 7.0)])]

    samples = await read(Counters(directory, "admin"), fails, works)
    assert value(samples, "kipuka_crl_number", ca='a"b\\c\n') == 7


async def test_events_become_figures_whose_labels_a_client_cannot_make_up(directory: Path) -> None:
    counters = Counters(directory, "est-1")
    labels = {"": sample_label(), "factory": replace(sample_label(), name="factory", ca_id="second")}
    meter = CountingMeter(counters, labels)
    road: dict[str, Any] = {"operation": "simpleenroll", "authenticator": "otp"}
    issued = CertificateIssued(
        time=NOW, label="factory", ca_id="second", serial="1", subject="CN=x", not_after="", key_type="", **road
    )
    meter.issued(issued, by_one_time_password=True)
    meter.issued(replace(issued, label=""), by_one_time_password=False)
    meter.fact(EnrolmentWaiting(time=NOW, label="factory", **road))
    meter.fact(EnrolmentReplayed(time=NOW, label="factory", serial="1", **road))
    meter.fact(EnrolmentRefused(time=NOW, label="factory", code="not_allowed", **road))
    for number in range(50):
        meter.fact(EnrolmentRefused(time=NOW, label=f"made-up-{number}", code="unknown_label", operation="cacerts"))
    meter.fact(ClientLockedOut(time=NOW, entity_id="x", locked_until=""))
    meter.fact(AdminRefused(time=NOW, code="viewer", path="/admin/x"))
    samples = await read(counters)
    series = {"ca": "second", "label": "factory", **road}
    found = {
        outcome: value(samples, "kipuka_enrolments_total", outcome=outcome, **series)
        for outcome in ("issued", "waiting", "replayed", "refused")
    }
    assert found == {"issued": 1, "waiting": 1, "replayed": 1, "refused": 1}
    assert (
        value(samples, "kipuka_enrolments_total", outcome="issued", **series | {"label": "(none)", "ca": "default"})
        == 1
    )
    assert len([1 for name, _ in samples if name == "kipuka_enrolments_total"]) == 5
    unknown = {"label": "(unknown)", "operation": "cacerts", "code": "unknown_label"}
    assert value(samples, "kipuka_refusals_total", **unknown) == 50
    assert value(samples, "kipuka_otp_uses_total") == 1
    assert value(samples, "kipuka_lockouts_total") == 1
    assert value(samples, "kipuka_admin_refusals_total", code="viewer") == 1
    assert value(samples, "kipuka_audit_events_total", event="enrolment_refused") == 51
    assert value(samples, "kipuka_audit_events_total", event="certificate_issued") == 2


async def test_labels_without_end_do_not_take_the_memory(directory: Path) -> None:
    counters = Counters(directory, "est-1")
    for number in range(5000):
        counters.add(catalogue.REFUSALS.name, ("", "", f"code-{number}"))
    counters.add(catalogue.REFUSALS.name, ("", "", "code-1"))
    samples = await read(counters)
    assert len([1 for name, _ in samples if name == "kipuka_refusals_total"]) == 2000
    assert value(samples, "kipuka_refusals_total", label="", operation="", code="code-1") == 2


async def test_the_page_has_every_metric_that_is_counted(directory: Path) -> None:
    text, _ = await MetricsPage(Counters(directory, "admin")).text()
    for metric in (*COUNTED, *SAMPLED):
        shown = f"{metric.name}_total" if metric.kind is Kind.COUNTER else metric.name
        assert f"# TYPE {shown} {metric.kind}\n" in text.decode()


def test_a_worker_does_not_import_the_library_that_writes_the_page() -> None:
    program = "import sys, kipuka_core.serve, kipuka_core.administration; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
