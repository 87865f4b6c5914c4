"""What docs/ offers to operators: the list of metrics, the configuration of Prometheus, and the
systemd units. Prometheus' and systemd's own tools check them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import BY_HAND, ROOT, Site, need
from prometheus_client.parser import text_string_to_metric_families

MONITORING = (ROOT / "docs" / "monitoring.md").read_text()
UNITS = sorted((ROOT / "docs" / "systemd").iterdir())
SYSTEM_UNITS = Path("/usr/lib/systemd/system")

ALERTS = """
rule_files: [tailboard.rules.yml]
evaluation_interval: 1m
tests:
  - name: no worker, then no API
    interval: 1m
    input_series:
      - series: 'up{job="tailboard", instance="a"}'
        values: 1x20 0x20
      - series: 'tailboard_workers{job="tailboard", instance="a"}'
        values: 1x10 0x9 _x20
    alert_rule_test:
      - {eval_time: 10m, alertname: TailboardRunsNoJobs, exp_alerts: []}
      - eval_time: 19m
        alertname: TailboardRunsNoJobs
        exp_alerts: &alerts
          - exp_labels: {severity: critical, job: tailboard, instance: a}
            exp_annotations: {summary: 'a: the API does not answer, or no worker is running'}
      - {eval_time: 39m, alertname: TailboardRunsNoJobs, exp_alerts: *alerts}
  - name: queued jobs wait, but not in a paused queue
    interval: 1m
    input_series:
      - series: 'tailboard_queue_oldest_seconds{job="tailboard", instance="a", queue="deploy"}'
        values: 0+60x40
      - series: 'tailboard_queue_oldest_seconds{job="tailboard", instance="a", queue="held"}'
        values: 0+60x40
      - series: 'tailboard_queue_paused{job="tailboard", instance="a", queue="held"}'
        values: 1x40
    alert_rule_test:
      - {eval_time: 30m, alertname: TailboardJobsWait, exp_alerts: []}
      - eval_time: 40m
        alertname: TailboardJobsWait
        exp_alerts:
          - exp_labels: {severity: warning, job: tailboard, instance: a, queue: deploy}
            exp_annotations: {summary: 'deploy: a job has been queued for 40m 0s'}
"""


def documented_metrics() -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric in the tables of docs/monitoring.md."""
    rows = re.findall(r"^\| (`[a-z_`, ]+) \| (\w+) \|([^|]*)\|", MONITORING, flags=re.M)
    return {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for names, kind, labels in rows
        for name in re.findall(r"`(\w+)`", names)
    }


def reported_metrics(text: str) -> dict[str, tuple[str, set[str]]]:
    """The same of the metrics that an API reports."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, labels - {"le"})
    return found


def test_the_page_lists_every_metric_with_its_type_and_labels(site: Site) -> None:
    site.job_maker.ended()
    site.job_maker.queued(queue=BY_HAND)
    site.ask("PUT", "/queues/monitored/pause")
    site.ask("PUT", "/queues/monitored", json={"limit": 1})
    with site.job_maker.running() as held:
        reported = reported_metrics(site.get("/metrics").text)
        site.job_maker.finish(held)
    site.ask("PUT", "/queues/monitored", json={"limit": None})
    site.ask("DELETE", "/queues/monitored/pause")
    documented = documented_metrics()
    if sys.platform != "linux":
        documented = {name: documented[name] for name in documented if name[:8] != "process_"}
    assert reported == documented


@pytest.fixture
def prometheus_files(tmp_path: Path) -> Path:
    """The files in docs/monitoring.md, in a folder, under their names."""
    for block in re.findall(r"^ *```yaml\n(.*?)```", MONITORING, flags=re.M | re.S):
        text = textwrap.dedent(block)
        name = re.match(r"# /etc/prometheus/(\S+)\n", text)
        assert name, text
        (tmp_path / name[1]).write_text(text)
    return tmp_path


def run(*command: str | Path, folder: Path = ROOT, text: str | None = None) -> None:
    """Runs a checking tool, which must find nothing."""
    done = subprocess.run(
        command,
        cwd=folder,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_promtool_accepts_the_configuration_and_the_alerts(prometheus_files: Path) -> None:
    promtool = need("promtool")
    check = (promtool, "check", "config", "--syntax-only")  # the token's file does not exist
    run(*check, "prometheus.yml", folder=prometheus_files)
    run(promtool, "check", "rules", "tailboard.rules.yml", folder=prometheus_files)
    configuration = (prometheus_files / "prometheus.yml").read_text()
    assert "  - /etc/prometheus/tailboard.rules.yml\n" in configuration


def test_the_alerts_fire_when_they_should(prometheus_files: Path) -> None:
    promtool = need("promtool")
    (prometheus_files / "test.yml").write_text(ALERTS)
    run(promtool, "test", "rules", "test.yml", folder=prometheus_files)


def test_promtool_finds_no_fault_in_the_metrics(site: Site) -> None:
    run(need("promtool"), "check", "metrics", text=site.get("/metrics").text)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """As they are, in a folder that stands in for / and has Tailboard installed."""
    analyze = need("systemd-analyze")
    program = tmp_path / "opt" / "tailboard" / "bin" / "tailboard"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    shutil.copytree(SYSTEM_UNITS, tmp_path / SYSTEM_UNITS.relative_to("/"), symlinks=True)
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(unit, units)
    checks = ("--man=no", "--recursive-errors=no", f"--root={tmp_path}")
    run(analyze, "verify", *checks, *[unit.name for unit in UNITS])


def test_a_worker_that_systemd_stops_leaves_its_jobs_alone() -> None:
    unit = (ROOT / "docs" / "systemd" / "tailboard-worker.service").read_text()
    assert "\nKillMode=process\n" in unit
    implied = "NoNewPrivileges|Protect|Private|Restrict[A-Z]|SystemCall|CapabilityBoundingSet"
    assert not re.search(rf"^({implied})", unit, flags=re.M), "jobs inherit it"


def test_jobs_in_a_unit_can_have_a_limit_of_memory() -> None:
    unit = (ROOT / "docs" / "systemd" / "tailboard-worker.service").read_text()
    assert "\nDelegate=memory\n" in unit
    assert "\nOOMPolicy=continue\n" in unit  # a job that exceeds its limit must not stop the unit
