"""``OpenTelemetryExporter``: what the SDK hands to its exporters, in memory and over OTLP/HTTP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

import tocsin
from tests.tocsin import snippets
from tests.tocsin.exporters.feeding import CANARIES, MORE_CANARIES, TRACES, feeding
from tocsin.events import EVENTS
from tocsin.exporters.metrics import METRICS
from tocsin.exporters.opentelemetry import OpenTelemetryExporter

TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "trace_flags": "01"}


class Telemetry:
    """An SDK that keeps everything in memory."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.kept = InMemoryLogRecordExporter()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.kept))
        self.exporter = OpenTelemetryExporter(self.meter_provider, self.logger_provider)

    @property
    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        scopes = (
            [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        )
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    @property
    def records(self) -> list[Any]:
        return [one.log_record for one in self.kept.get_finished_logs()]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.meter_provider.shutdown()
    made.logger_provider.shutdown()


def point(metric: Any) -> Any:
    (found,) = metric.data.data_points
    return found


def test_a_request_is_the_stable_http_metric(telemetry: Telemetry) -> None:
    with feeding(telemetry.exporter):
        tocsin.emit(
            "api.request", method="GET", route="/courses/:id", status=503, duration_ms=42.6, path="/x"
        )
    metric = telemetry.metrics["http.server.request.duration"]
    measured = point(metric)
    assert metric.unit == "s"
    assert measured.sum == pytest.approx(0.0426)
    assert measured.explicit_bounds[0] == 0.005
    assert measured.explicit_bounds[-1] == 10
    assert dict(measured.attributes) == {
        "http.request.method": "GET",
        "http.route": "/courses/:id",
        "http.response.status_code": 503,
        "error.type": "503",
    }


def test_what_an_event_lacks_is_absent(telemetry: Telemetry) -> None:
    with feeding(telemetry.exporter):
        tocsin.emit("api.request", method="BREW", duration_ms=1)
    assert dict(point(telemetry.metrics["http.server.request.duration"]).attributes) == {
        "http.request.method": "_OTHER"
    }


def test_an_ai_request_follows_the_genai_conventions(telemetry: Telemetry) -> None:
    with feeding(telemetry.exporter):
        tocsin.emit(
            "ai.request",
            **{**EVENTS["ai.request"].example, "prompt_tokens": 512, "completion_tokens": 300, "ttft_ms": 90},
        )
    found = telemetry.metrics
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
    }
    tokens = found["gen_ai.client.token.usage"].data.data_points
    assert {one.attributes["gen_ai.token.type"]: one.sum for one in tokens} == {"input": 512, "output": 300}
    assert tokens[0].explicit_bounds[-1] == 67_108_864
    assert point(found["gen_ai.client.operation.time_to_first_chunk"]).sum == pytest.approx(0.09)
    duration = point(found["gen_ai.client.operation.duration"])
    assert {name: duration.attributes[name] for name in common} == common


def test_a_failed_job_names_its_error(telemetry: Telemetry) -> None:
    with feeding(telemetry.exporter):
        tocsin.emit("job.completed", **EVENTS["job.completed"].example)
    attributes = point(telemetry.metrics["messaging.process.duration"]).attributes
    assert attributes["error.type"] == "TimeoutError"
    assert attributes["k12.job.class"] == "ClassroomRosterSyncJob"
    assert attributes["messaging.destination.name"] == "default"


def test_every_row_is_measured_in_its_unit(telemetry: Telemetry) -> None:
    with feeding(telemetry.exporter):
        for event in EVENTS.values():
            tocsin.emit(event.name, **{**event.example, "ttft_ms": 5})
    found = telemetry.metrics
    for row in METRICS:
        if row.opentelemetry:
            assert found[row.opentelemetry].unit == row.unit


def test_an_event_is_a_log_record_with_its_name(telemetry: Telemetry) -> None:
    with feeding(telemetry.exporter) as sink:
        tocsin.emit("auth.login", provider="saml", status="failure", details={"tried": [1, 2]}, **TRACE)
    (record,) = telemetry.records
    assert record.event_name == "auth.login"
    assert record.body is None
    assert record.attributes["provider"] == "saml"
    assert record.attributes["details"]["tried"] == (1, 2) or record.attributes["details"]["tried"] == [1, 2]
    assert f"{record.trace_id:032x}" == TRACE["trace_id"]
    assert f"{record.span_id:016x}" == TRACE["span_id"]
    assert not {*TRACE} & {*record.attributes}
    printed = sink.events[0]["timestamp"]
    assert record.timestamp % 1_000_000 == 0
    assert printed.endswith(f".{record.timestamp // 1_000_000 % 1000:03d}Z")
    assert record.observed_timestamp >= record.timestamp


@pytest.mark.parametrize(
    ("level", "number"),
    [
        ("DEBUG", SeverityNumber.DEBUG),
        ("INFO", SeverityNumber.INFO),
        ("WARNING", SeverityNumber.WARN),
        ("ERROR", SeverityNumber.ERROR),
        ("CRITICAL", SeverityNumber.FATAL),
        ("NOTICE", SeverityNumber.UNSPECIFIED),
    ],
)
def test_a_log_line_keeps_its_level(telemetry: Telemetry, level: str, number: SeverityNumber) -> None:
    with feeding(telemetry.exporter):
        tocsin.log(level, "sync started", run_id="981")
    (record,) = telemetry.records
    assert (record.severity_text, record.severity_number) == (level, number)
    assert (record.body, dict(record.attributes)) == ("sync started", {"run_id": "981"})
    assert record.trace_id == 0
    assert telemetry.metrics == {}


def test_S14_no_person_leaves(telemetry: Telemetry) -> None:
    with feeding(telemetry.exporter):
        for event in EVENTS.values():
            tocsin.emit(event.name, **{**event.example, **CANARIES})
        tocsin.log("ERROR", "cannot mail maya.lopez@example.org", **CANARIES)
    logs = " ".join(one.to_json() for one in telemetry.kept.get_finished_logs()).lower()
    assert [trace for trace in TRACES if trace in logs] == []
    with feeding(telemetry.exporter):
        for event in EVENTS.values():
            tocsin.emit(event.name, **{**event.example, **MORE_CANARIES})
    data = telemetry.reader.get_metrics_data()
    assert data is not None
    assert [trace for trace in TRACES if trace in data.to_json().lower()] == []


class Receiver(ThreadingHTTPServer):
    """An OTLP/HTTP receiver: paths and bodies of what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: dict[str, bytes] = {}


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        zipped = self.headers.get("Content-Encoding") == "gzip"
        self.server.received[self.path] = gzip.decompress(body) if zipped else body
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_arrives_over_otlp(receiver: Receiver) -> None:
    base = f"http://127.0.0.1:{receiver.server_port}"
    resource = Resource({"service.name": "k12-core"})
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{base}/v1/metrics"), 60_000)
    meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    loggers = LoggerProvider(resource, shutdown_on_exit=False)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{base}/v1/logs")))
    with feeding(OpenTelemetryExporter(meters, loggers)):
        tocsin.emit("sync.run", **EVENTS["sync.run"].example)
    meters.shutdown()
    loggers.shutdown()
    metrics = ExportMetricsServiceRequest.FromString(receiver.received["/v1/metrics"])
    (scope,) = metrics.resource_metrics[0].scope_metrics
    counts = {m.name: m.sum.data_points[0].as_int for m in scope.metrics if m.HasField("sum")}
    assert counts == {"k12.sync.runs": 1, "k12.sync.records": 240}
    logs = ExportLogsServiceRequest.FromString(receiver.received["/v1/logs"])
    (sent,) = logs.resource_logs[0].scope_logs[0].log_records
    assert sent.event_name == "sync.run"
    assert {one.key: one.value.string_value for one in sent.attributes}["provider"] == "oneroster"


def test_the_page_shows_what_happens(monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry) -> None:
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: telemetry.meter_provider)
    monkeypatch.setattr(
        "tocsin.exporters.opentelemetry.get_logger_provider", lambda: telemetry.logger_provider
    )
    snippets.run("instrumentation/opentelemetry.md", 0)
    tocsin.emit("job.queue", queue="default", depth=3)
    made: Any = tocsin.emitter.current()  # type: ignore[attr-defined]
    assert made.flush()
    made.close()
    assert point(telemetry.metrics["k12.job.queue.depth"]).value == 3
