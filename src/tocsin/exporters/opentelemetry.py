"""The events as OpenTelemetry metrics, and every line as an OpenTelemetry log record.

    tocsin.configure(exporters=[OpenTelemetryExporter()])

Needs ``pip install "tocsin[opentelemetry]"``: the API; the SDK and its way out are the application's own
choice. Names, attributes and buckets: :mod:`tocsin.exporters.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber, get_logger_provider
from opentelemetry.context import Context

from tocsin.exporters.metrics import (
    METRICS,
    Bounded,
    Measurement,
    Metric,
    canonical,
    error_type,
    measurements,
)
from tocsin.trace import parse_traceparent

_SCOPE = "tocsin"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEVERITIES = {
    "DEBUG": SeverityNumber.DEBUG,
    "INFO": SeverityNumber.INFO,
    "WARN": SeverityNumber.WARN,
    "WARNING": SeverityNumber.WARN,
    "ERROR": SeverityNumber.ERROR,
    "CRITICAL": SeverityNumber.FATAL,
    "FATAL": SeverityNumber.FATAL,
}
_TRACE_FIELDS = frozenset(("trace_id", "span_id", "trace_flags"))

_Record = Callable[[float, Mapping[str, str | int]], None]


class OpenTelemetryExporter:
    """Feeds a meter of ``meter_provider`` and a logger of ``logger_provider``; by default the global ones.

    Who speaks is the Resource of these providers, not of a record. An attribute has at most 500 values, then
    ``_other``; one that an event lacks is absent.
    """

    def __init__(
        self,
        meter_provider: metrics.MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        meter = (meter_provider or metrics.get_meter_provider()).get_meter(_SCOPE)
        self._logger = (logger_provider or get_logger_provider()).get_logger(_SCOPE)
        rows = {row.opentelemetry: row for row in METRICS if row.opentelemetry}
        self._record = {name: _instrument(meter, row) for name, row in rows.items()}
        self._bounded = Bounded()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Records the metrics of one record, and the record itself as a log record."""
        for measured in measurements(record):
            if measured.metric.opentelemetry:
                attributes = _attributes(self._bounded(measured), record)
                self._record[measured.metric.opentelemetry](measured.value, attributes)
        self._logger.emit(_log_record(record))


def _instrument(meter: metrics.Meter, row: Metric) -> _Record:
    if row.kind == "histogram":
        return meter.create_histogram(
            row.opentelemetry, row.unit, row.help, explicit_bucket_boundaries_advisory=row.buckets
        ).record
    if row.kind == "counter":
        return meter.create_counter(row.opentelemetry, row.unit, row.help).add
    return meter.create_gauge(row.opentelemetry, row.unit, row.help).set


def _attributes(measured: Measurement, record: Mapping[str, Any]) -> dict[str, str | int]:
    metric = measured.metric
    attributes: dict[str, str | int] = dict(metric.constant or {})
    for label, value in zip(metric.labels, measured.labels, strict=True):
        if value and label.attribute:
            numeric = label.attribute == "http.response.status_code" and value.isdecimal()
            attributes[label.attribute] = int(value) if numeric else value
    if failed := error_type(metric, canonical(metric.event, record["fields"])):
        attributes["error.type"] = failed
    return attributes


def _log_record(record: Mapping[str, Any]) -> LogRecord:
    fields = record["fields"]
    level = record.get("level", "INFO")
    return LogRecord(
        timestamp=_nanoseconds(record["timestamp"]),
        context=_context(fields),
        severity_text=level,
        severity_number=_SEVERITIES.get(level, SeverityNumber.UNSPECIFIED),
        body=record.get("message"),
        attributes={name: value for name, value in fields.items() if name not in _TRACE_FIELDS},
        event_name=record.get("metric"),
    )


def _nanoseconds(timestamp: str) -> int:
    since = datetime.fromisoformat(timestamp) - _EPOCH
    return since // timedelta(microseconds=1) * 1000


def _context(fields: Mapping[str, Any]) -> Context:
    """The place in a trace that the record's own fields name: this thread is in no request."""
    header = f"00-{fields.get('trace_id')}-{fields.get('span_id')}-{fields.get('trace_flags', '01')}"
    place = parse_traceparent(header)
    span = trace.INVALID_SPAN
    if place is not None:
        span = trace.NonRecordingSpan(
            trace.SpanContext(
                int(place.trace_id, 16),
                int(place.span_id, 16),
                is_remote=False,
                trace_flags=trace.TraceFlags(int(place.trace_flags, 16)),
            )
        )
    return trace.set_span_in_context(span, Context())
