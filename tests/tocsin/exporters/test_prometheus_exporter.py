"""``PrometheusExporter``: what a scrape sees, read by prometheus_client's own parser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import tocsin
from tests.tocsin import snippets
from tests.tocsin.exporters.feeding import CANARIES, MORE_CANARIES, TRACES, feeding
from tocsin.events import EVENTS
from tocsin.exporters.metrics import METRICS, OTHER
from tocsin.exporters.prometheus import PrometheusExporter


def scrape(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def everything(registry: CollectorRegistry) -> str:
    """A scrape after every event of the catalogue."""
    with feeding(PrometheusExporter(registry)):
        for event in EVENTS.values():
            tocsin.emit(event.name, **event.example)
    return scrape(registry)


def test_every_row_is_scraped_under_its_name(everything: str) -> None:
    found = samples(everything)
    for row in METRICS:
        if row.prometheus:
            name = f"{row.prometheus}_count" if row.kind == "histogram" else row.prometheus
            measured = [labels for labels, _ in found[name]] if name in found else None
            if measured is None:
                # No example has a stream's first token: declared, with nothing in it.
                assert row.field == "ttft_ms"
                assert f"# TYPE {row.prometheus} histogram" in everything
                continue
            assert {label.field for label in row.labels} == {*measured[0]}


def test_values_are_in_base_units(everything: str) -> None:
    found = samples(everything)
    assert found["http_server_request_duration_seconds_sum"] == [
        ({"method": "GET", "route": "/api/v1/courses/:id", "status": "200"}, pytest.approx(0.0426))
    ]
    bounds = [labels["le"] for labels, _ in found["http_server_request_duration_seconds_bucket"]]
    assert "2.0" in bounds
    assert found["k12_db_disk_used_bytes"] == [({"volume": "core-postgres"}, 41_875_931_136)]
    assert found["probe_success"] == [({"target": "ai-gateway"}, 0)]


def test_outcomes_that_did_not_happen_are_zero(everything: str) -> None:
    logins = samples(everything)["k12_auth_logins_total"]
    assert sorted((labels["status"], labels["reason"], value) for labels, value in logins) == [
        ("cancelled", "", 0),
        ("failure", "", 0),
        ("failure", "invalid_grant", 1),
        ("success", "", 0),
        ("throttled", "", 0),
    ]
    jobs = samples(everything)["k12_job_duration_seconds_count"]
    assert {(labels["status"], value) for labels, value in jobs} == {("success", 0), ("error", 1)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_has_no_complaint(everything: str) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=everything, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_labels_are_bounded_and_absent_ones_empty(registry: CollectorRegistry) -> None:
    exporter = PrometheusExporter(registry)
    for number in range(600):
        fields = {"route": f"/r{number}", "status": 200, "method": "BREW", "duration_ms": 1}
        exporter({"metric": "api.request", "fields": fields})
    exporter({"metric": "api.request", "fields": {"duration_ms": 1}})
    counts = {
        labels["route"]: value
        for labels, value in samples(scrape(registry))["http_server_request_duration_seconds_count"]
    }
    assert counts[OTHER] == 100
    assert counts[""] == 1
    assert len(counts) == 502


def test_configuring_again_goes_on_counting(registry: CollectorRegistry) -> None:
    for _ in range(2):
        with feeding(PrometheusExporter(registry)):
            tocsin.emit("sync.run", provider="oneroster", status="success")
    runs = {labels["status"]: value for labels, value in samples(scrape(registry))["k12_sync_runs_total"]}
    assert runs == {"success": 2, "partial": 0, "error": 0}


def test_S14_no_person_is_in_a_scrape(registry: CollectorRegistry) -> None:
    with feeding(PrometheusExporter(registry)):
        for event in EVENTS.values():
            tocsin.emit(event.name, **{**event.example, **CANARIES, **MORE_CANARIES})
    text = scrape(registry).lower()
    assert "k12_auth_logins_total" in text
    assert [trace for trace in TRACES if trace in text] == []


FORKING = """
import os
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from tocsin.exporters.prometheus import PrometheusExporter

exporter = PrometheusExporter()

def work(depth):
    exporter({"metric": "api.request", "fields": {"method": "GET", "status": 200, "duration_ms": 1}})
    exporter({"metric": "job.queue", "fields": {"queue": "default", "depth": depth}})

work(1)
for depth in (2, 3):
    child = os.fork()
    if child == 0:
        work(depth)
        os._exit(0)
    os.waitpid(child, 0)
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_S4_forked_workers_are_scraped_as_one(tmp_path: Path) -> None:
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", FORKING], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    found = samples(ran.stdout)
    assert [value for _, value in found["http_server_request_duration_seconds_count"]] == [3]
    assert [value for _, value in found["k12_job_queue_depth"]] == [3]


def test_the_page_shows_what_happens(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> None:
    monkeypatch.setattr("tocsin.exporters.prometheus.REGISTRY", registry)
    snippets.run("instrumentation/prometheus.md", 0)
    tocsin.emit("job.queue", queue="default", depth=3)
    made: Any = tocsin.emitter.current()  # type: ignore[attr-defined]
    assert made.flush()
    made.close()
    assert samples(scrape(registry))["k12_job_queue_depth"] == [({"queue": "default"}, 3)]
