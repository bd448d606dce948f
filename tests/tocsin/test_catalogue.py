"""The event catalogue: complete, consistent, and each example goes out and comes back."""

from __future__ import annotations

import orjson
import pytest

import tocsin
from tocsin.events import ALIASES, EVENTS, EventType, field_name
from tocsin.testing import capture_events

EVERY_EVENT = pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
ACCEPTED = {"text": (str, int), "integer": (int,), "number": (int, float), "boolean": (bool,)}
ENVELOPE = {"metric", "timestamp", "service", "environment"}


def test_it_lists_the_events_of_the_conventions() -> None:
    assert list(EVENTS) == [
        "api.request",
        "job.completed",
        "ai.invocation",
        "ai.request",
        "sync.run",
        "auth.login",
        "job.queue",
        "health.check",
        "db.disk",
        "log.heartbeat",
        "deploy",
    ]


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("api.request", "method controller action status duration_ms"),
        ("job.completed", "job_class status error duration_ms"),
        ("ai.invocation", "provider model tokens duration_ms status"),
        ("ai.request", "provider model tokens duration_ms status task_type"),
        ("sync.run", "provider status records_processed"),
        ("auth.login", "provider status"),
        ("job.queue", ""),
        ("health.check", ""),
        ("db.disk", ""),
        ("log.heartbeat", ""),
        ("deploy", ""),
    ],
)
def test_it_knows_which_fields_the_order_prints(event: str, fields: str) -> None:
    assert {f.name for f in EVENTS[event].fields if f.in_order} == set(fields.split())


@EVERY_EVENT
def test_an_example_has_catalogued_fields_of_the_right_types_in_printing_order(event: EventType) -> None:
    types = {field.name: field.type for field in event.fields}
    assert [name for name in event.field_names if name in event.example] == list(event.example)
    for name, value in event.example.items():
        assert isinstance(value, ACCEPTED[types[name]]), name
        assert isinstance(value, bool) == (types[name] == "boolean"), name


@EVERY_EVENT
def test_fields_are_unique_and_say_what_they_mean(event: EventType) -> None:
    assert len(set(event.field_names)) == len(event.fields)
    assert event.meaning.endswith(".")
    assert all(field.meaning for field in event.fields)


@EVERY_EVENT
def test_units_agree_with_names(event: EventType) -> None:
    units = {"ms": "ms", "s": "s", "bytes": "bytes", "tokens": "tokens"}
    for field in event.fields:
        ending = field.name.rpartition("_")[2]
        if field.type in ("integer", "number") and ending in units:
            assert field.unit == units[ending], field.name


@EVERY_EVENT
def test_an_example_emits_and_parses_back_equal(event: EventType) -> None:
    with capture_events() as captured:
        tocsin.emit(event.name, **event.example)
    (line,) = captured.events
    fields = {k: v for k, v in line.items() if k not in ENVELOPE} if event.flat else line["tags"]
    assert fields == event.example
    assert list(fields) == list(event.example)


def test_only_the_gateway_event_is_flat() -> None:
    assert [event.name for event in EVENTS.values() if event.flat] == ["ai.request"]


def test_the_http_status_of_a_request_is_an_integer() -> None:
    assert {f.name: f.type for f in EVENTS["api.request"].fields}["status"] == "integer"


@pytest.mark.parametrize(
    ("event", "key", "name"),
    [
        ("sync.run", "record_count", "records_processed"),
        ("job.completed", "error_type", "error"),
        ("api.request", "user", "user_id"),
        ("ai.request", "total_tokens", "tokens"),
        ("ai.request", "latency_ms", "duration_ms"),
        ("custom", "latency_ms", "duration_ms"),
        ("health.check", "latency_ms", "latency_ms"),
        ("api.request", "duration_ms", "duration_ms"),
    ],
)
def test_aliases(event: str, key: str, name: str) -> None:
    assert field_name(event, key) == name


def test_aliases_lead_to_fields_of_the_catalogue() -> None:
    known = {field.name for event in EVENTS.values() for field in event.fields}
    assert set(ALIASES.values()) <= known


def test_the_catalogue_is_pure_data() -> None:
    assert orjson.dumps({name: dict(event.example) for name, event in EVENTS.items()})
