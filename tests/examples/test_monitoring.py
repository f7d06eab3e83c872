"""Dashboard and alert rules ask for metrics that there are, with labels that they have, and Prometheus reads them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_core.edges.metrics.catalogue import COUNTED, SAMPLED, Kind
from kipuka_core.measuring import ASKED
from tests.docs.blocks import ROOT
from tests.interop.programs import run

MONITORING = ROOT / "examples" / "monitoring"
RULES = MONITORING / "kipuka-alerts.yml"
CASES = """
rule_files:
  - kipuka-alerts.yml
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'up{job="kipuka", instance="well"}'
        values: '1x30'
      - series: 'up{job="kipuka", instance="ill"}'
        values: '1x30'
      - series: 'kipuka_processes{listener="est", instance="well", job="kipuka"}'
        values: '2x30'
      - series: 'kipuka_part_up{part="ca default", instance="well", job="kipuka"}'
        values: '1x30'
      - series: 'kipuka_part_up{part="ca default", instance="ill", job="kipuka"}'
        values: '0x30'
      - series: 'kipuka_hsm_sessions{token="t", state="wanted", instance="well", job="kipuka"}'
        values: '4x30'
      - series: 'kipuka_hsm_sessions{token="t", state="open", instance="well", job="kipuka"}'
        values: '4x30'
      - series: 'kipuka_hsm_sessions{token="t", state="wanted", instance="ill", job="kipuka"}'
        values: '4x30'
      - series: 'kipuka_hsm_sessions{token="t", state="open", instance="ill", job="kipuka"}'
        values: '3x30'
      - series: 'kipuka_audit_sink_failures_total{sink="jsonl", instance="well", job="kipuka"}'
        values: '7x30'
      - series: 'kipuka_audit_sink_failures_total{sink="jsonl", instance="ill", job="kipuka"}'
        values: '7+1x30'
    promql_expr_test:
      - expr: count by (alertname, instance) (ALERTS{alertstate="firing"})
        eval_time: 20m
        exp_samples:
          - {labels: '{alertname="KipukaWorkersMissing", instance="ill"}', value: 1}
          - {labels: '{alertname="KipukaPartFails", instance="ill"}', value: 1}
          - {labels: '{alertname="KipukaHsmSessionsMissing", instance="ill"}', value: 1}
          - {labels: '{alertname="KipukaAuditSinkFails", instance="ill"}', value: 1}
  - interval: 1m
    input_series:
      - series: 'kipuka_certificates_expiring{days="7", instance="well", job="kipuka"}'
        values: '20x800'
      - series: 'kipuka_certificates{status="active", instance="well", job="kipuka"}'
        values: '1000x800'
      - series: 'kipuka_certificates_expiring{days="7", instance="ill", job="kipuka"}'
        values: '200x800'
      - series: 'kipuka_certificates{status="active", instance="ill", job="kipuka"}'
        values: '1000x800'
    alert_rule_test:
      - alertname: KipukaCertificatesExpire
        eval_time: 12h
        exp_alerts:
          - exp_labels: {severity: warning, days: "7", instance: ill, job: kipuka}
            exp_annotations:
              summary: many certificates of ill end within a week
              description: Devices that renew in time are not among the last. See kipuka certs list for who does not.
"""
"""What fires and what does not, as `promtool test rules` has it."""
_OF_PROMETHEUS = {"instance", "job", "le"}
_SELECTOR = re.compile(r"(kipuka_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_BY = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def names() -> dict[str, set[str]]:
    """Every name that can stand in a query, with its labels."""
    found = {}
    for metric in (*COUNTED, *SAMPLED, *ASKED):
        labels = set(metric.labels)
        if metric.kind is Kind.COUNTER:
            found[f"{metric.name}_total"] = labels
        elif metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.name}_{part}": labels for part in ("bucket", "sum", "count")}
        else:
            found[metric.name] = labels
    return found


def queries() -> Iterator[tuple[str, str]]:
    dashboard = json.loads((MONITORING / "kipuka-dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    rules = re.split(r"^      - alert: ", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for rule in rules:
        match = re.search(r"^        expr: (?:>-\n)?(.*?)^        (?:for|labels):", rule, re.MULTILINE | re.DOTALL)
        assert match, rule
        yield rule.partition("\n")[0], match[1]


@pytest.mark.parametrize(("where", "query"), list(queries()), ids=[where for where, _ in queries()])
def test_every_query_asks_for_what_there_is(where: str, query: str) -> None:
    known = names()
    asked = _SELECTOR.findall(query)
    assert asked or "up{" in query
    for name, matchers in asked:
        assert name in known, f"{where}: {name} is on no page"
        assert set(_MATCHER.findall(matchers)) <= known[name] | _OF_PROMETHEUS, f"{where}: {matchers}"
    labels = {label.strip() for group in _BY.findall(query) for label in group.split(",")}
    assert labels <= _OF_PROMETHEUS.union(*(known[name] for name, _ in asked))


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for _, query in queries() for name, _ in _SELECTOR.findall(query)}
    missing = set()
    for metric in (*COUNTED, *SAMPLED, *ASKED):
        if not any(name.startswith(metric.name) for name in shown):
            missing.add(metric.name)
    assert missing == set()


def test_the_panels_of_the_dashboard_do_not_cover_one_another() -> None:
    dashboard = json.loads((MONITORING / "kipuka-dashboard.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.interop
def test_promtool_reads_the_rules_and_the_configuration(tmp_path: Path) -> None:
    for file in MONITORING.glob("*.yml"):
        shutil.copy(file, tmp_path)
    checked = run("promtool", "check", "rules", tmp_path / RULES.name)
    assert b"SUCCESS" in checked.stdout
    (tmp_path / "cases.yml").write_text(CASES, encoding="utf-8")
    run("promtool", "test", "rules", tmp_path / "cases.yml", cwd=tmp_path)
    # The certificates are those of another machine.
    configuration = tmp_path / "prometheus.yml"
    text = configuration.read_text(encoding="utf-8")
    for name in ("ca.pem", "prometheus.pem", "prometheus.key"):
        (tmp_path / name).touch()
        text = text.replace(f"/etc/prometheus/kipuka/{name}", str(tmp_path / name))
    configuration.write_text(text, encoding="utf-8")
    assert b"SUCCESS" in run("promtool", "check", "config", "--syntax-only", configuration).stdout
