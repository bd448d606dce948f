"""The table event → metric: its rows fit the catalogue, and nothing odd in a record gets through."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.events import EVENTS
from tocsin.exporters.metrics import (
    COUNT,
    LABEL_CHARACTERS,
    METRICS,
    OTHER,
    UNKNOWN,
    Bounded,
    Metric,
    error_type,
    measurements,
    siblings,
)

#: Labels that may be on a metric; who, whose and which one of them are for logs.
ALLOWED = {
    *("method", "route", "status", "job_class", "queue", "provider", "model", "task_type", "sync_type"),
    *("mode", "reason", "target", "volume", "token_type"),
}
#: Parts of the token count, which gateways print beside it.
MORE_FIELDS = {"prompt_tokens", "completion_tokens", "estimated"}


def measured(event: str, **fields: Any) -> dict[str, tuple[float, dict[str, str]]]:
    """StatsD name → value and labels."""
    return {
        one.metric.statsd: (
            one.value,
            dict(zip([label.field for label in one.metric.labels], one.labels, strict=True)),
        )
        for one in measurements({"metric": event, "fields": fields})
    }


@pytest.mark.parametrize("row", METRICS, ids=lambda row: f"{row.event}-{row.field}")
def test_a_row_fits_the_catalogue_and_the_names_of_each_system(row: Metric) -> None:
    fields = {*EVENTS[row.event].field_names, *MORE_FIELDS}
    assert row.field in {*fields, COUNT}
    assert {*row.unless} <= fields
    assert {label.field for label in row.labels} <= ALLOWED
    assert all(label.field in fields or label.field == "token_type" for label in row.labels)
    assert (row.kind == "histogram") == bool(row.buckets)
    assert list(row.buckets) == sorted(set(row.buckets))
    assert re.fullmatch(r"[a-z][a-z0-9_.]*", row.statsd)
    assert row.prometheus.endswith("_total") == (row.kind == "counter" and row.prometheus != "")
    if row.unit == "s" and row.prometheus:
        assert row.prometheus.endswith("_seconds")
    if row.unit == "By":
        assert row.prometheus.endswith("_bytes")


def test_rows_that_share_a_name_are_one_metric() -> None:
    for system in ("opentelemetry", "prometheus"):
        shapes: dict[str, set[Any]] = {}
        for row in METRICS:
            if name := getattr(row, system):
                labels = tuple(label.field for label in row.labels)
                shapes.setdefault(name, set()).add((row.kind, row.unit, labels, row.buckets))
        assert all(len(found) == 1 for found in shapes.values())
    statsd = [row.statsd for row in METRICS]
    assert len(statsd) == len(set(statsd))


@pytest.mark.parametrize("event", sorted({row.event for row in METRICS}))
def test_the_catalogues_example_is_measured(event: str) -> None:
    found = measured(event, **EVENTS[event].example)
    assert found
    for _, labels in found.values():
        assert not {"", UNKNOWN} & {value for name, value in labels.items() if name in EVENTS[event].example}


def test_buckets_hold_what_alerts_ask_for() -> None:
    buckets = {row.prometheus: row.buckets for row in METRICS}
    assert 2 in buckets["http_server_request_duration_seconds"]
    assert buckets["k12_job_duration_seconds"][0::11] == (0.1, 600)
    assert buckets["gen_ai_client_operation_duration_seconds"][0::13] == (0.01, 81.92)
    assert buckets["gen_ai_client_token_usage"][0::13] == (1, 67_108_864)


def test_milliseconds_become_seconds() -> None:
    assert measured("api.request", duration_ms=123.4)["api.request"][0] == pytest.approx(0.1234)


def test_aliases_count_as_the_fields_they_are() -> None:
    assert measured("sync.run", provider="oneroster", record_count=240)["sync.records"][0] == 240
    assert measured("ai.request", latency_ms=50)["ai.request"][0] == pytest.approx(0.05)
    assert measured("health.check", latency_ms=50)["health.duration_s"][0] == pytest.approx(0.05)
    both = measured("sync.run", record_count=1, records_processed=2)
    assert both["sync.records"][0] == 2


@pytest.mark.parametrize(
    ("given_method", "label"), [("get", "GET"), ("BREW", UNKNOWN), ("x" * 999, UNKNOWN), (None, "")]
)
def test_unknown_methods_are_one(given_method: Any, label: str) -> None:
    assert measured("api.request", duration_ms=1, method=given_method)["api.request"][1]["method"] == label


@pytest.mark.parametrize(
    ("status", "label"), [(200, "200"), ("404", "404"), (999, ""), (True, ""), ("ok", ""), (20.5, "")]
)
def test_only_http_statuses_are_statuses_of_requests(status: Any, label: str) -> None:
    assert measured("api.request", duration_ms=1, status=status)["api.request"][1]["status"] == label


def test_a_reason_that_is_prose_is_no_label() -> None:
    reasons = {
        given: measured("auth.login", status="failure", reason=given)["auth.login"][1]["reason"]
        for given in ("invalid_grant", "Maya Lopez is unknown")
    }
    assert reasons == {"invalid_grant": "invalid_grant", "Maya Lopez is unknown": UNKNOWN}


def test_tokens_are_reported_once_and_never_as_estimates() -> None:
    assert {*measured("ai.request", tokens=812)} == {"ai.tokens.total"}
    split = measured("ai.request", tokens=812, prompt_tokens=512, completion_tokens=300)
    assert {name: value for name, (value, _) in split.items()} == {
        "ai.tokens.input": 512,
        "ai.tokens.output": 300,
    }
    assert measured("ai.request", tokens=812, estimated=True) == {}
    assert {*measured("ai.request", tokens=812, estimated=False)} == {"ai.tokens.total"}


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 2**80, True, "12", None, [1], {}])
def test_what_is_no_measurement_is_none(value: Any) -> None:
    assert measured("job.queue", queue="default", depth=value) == {}


@pytest.mark.parametrize(
    ("event", "fields", "kind"),
    [
        ("api.request", {"status": 200}, ""),
        ("api.request", {"status": 404}, ""),
        ("api.request", {"status": 503}, "503"),
        ("api.request", {"status": 500, "error": "KeyError"}, "KeyError"),
        ("job.completed", {"status": "success"}, ""),
        ("job.completed", {"status": "error"}, UNKNOWN),
        ("job.completed", {"status": "error", "error": "no grade for Maya Lopez"}, UNKNOWN),
    ],
)
def test_the_error_type_names_what_failed(event: str, fields: dict[str, Any], kind: str) -> None:
    row = next(row for row in METRICS if row.event == event and row.errors)
    assert error_type(row, fields) == kind


def test_every_outcome_is_known_beside_the_first() -> None:
    row = next(row for row in METRICS if row.event == "auth.login")
    assert [*siblings(row, ("google", "failure", "invalid_grant"))] == [
        ("google", status, "") for status in ("success", "failure", "throttled", "cancelled")
    ]


def test_a_label_has_a_bounded_number_of_values() -> None:
    bounded = Bounded(limit=3)
    queues = [
        bounded(one).labels[0]
        for number in (1, 2, 3, 4, 5, 2, "")
        for one in measurements({"metric": "job.queue", "fields": {"queue": f"q{number}", "depth": 1}})
    ]
    assert queues == ["q1", "q2", "q3", OTHER, OTHER, "q2", OTHER]


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text() | st.lists(st.text())
)
NAMES = st.sampled_from(sorted({name for event in EVENTS.values() for name in event.field_names}))


@given(st.sampled_from(sorted(EVENTS)), st.dictionaries(NAMES, SCALARS))
def test_no_record_makes_it_fail(event: str, fields: dict[str, Any]) -> None:
    for one in measurements({"metric": event, "fields": fields}):
        assert one.value >= 0
        assert all(len(label) <= LABEL_CHARACTERS for label in one.labels)
        error_type(one.metric, fields)


def test_a_log_line_measures_nothing() -> None:
    assert [*measurements({"level": "INFO", "message": "sync started", "fields": {"depth": 3}})] == []
