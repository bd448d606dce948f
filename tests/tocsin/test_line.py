"""The wire format: the canonical lines byte by byte, and what is never in a line."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

import tocsin
from tocsin.config import Settings
from tocsin.line import LINE_BYTES
from tocsin.processors import timestamp
from tocsin.testing import TEST_KEY, capture_events

AT = int(datetime(2026, 11, 23, 7, 55, 12, 345_999, tzinfo=UTC).timestamp() * 1_000_000) * 1000
CORE = Settings(service="k12-core", environment="production", pseudonym_key=TEST_KEY)


def test_canonical_metric_event() -> None:
    with capture_events(CORE, clock=lambda: AT) as captured, tocsin.bind(request_id="6f1c", tenant_id=7):
        tocsin.emit(
            "api.request",
            action="show",
            controller="CoursesController",
            method="GET",
            path="/api/v1/courses/7",
            route="/api/v1/courses/:id",
            status=200,
            duration_ms=42.6,
            user_id="u_3fa94c0d1b7e8a25",
            error=None,
        )
    assert captured.lines == [
        b'{"metric":"api.request","tags":{"request_id":"6f1c","method":"GET","path":"/api/v1/courses/7",'
        b'"route":"/api/v1/courses/:id","status":200,"duration_ms":42.6,"user_id":"u_3fa94c0d1b7e8a25","tenant_id":7,'
        b'"controller":"CoursesController","action":"show"},"timestamp":"2026-11-23T07:55:12.345Z",'
        b'"service":"k12-core","environment":"production"}\n'
    ]


def test_canonical_flat_gateway_event() -> None:
    with capture_events(Settings(service="k12-ai-gateway"), clock=lambda: AT) as captured:
        tocsin.emit(
            "ai.request",
            provider="openai",
            model="gpt-4o-mini",
            tokens=812,
            duration_ms=1204,
            status="success",
            task_type="lesson_plan",
        )
    assert captured.lines == [
        b'{"metric":"ai.request","provider":"openai","model":"gpt-4o-mini","tokens":812,"duration_ms":1204,'
        b'"status":"success","task_type":"lesson_plan","timestamp":"2026-11-23T07:55:12.345Z",'
        b'"service":"k12-ai-gateway"}\n'
    ]


def test_canonical_log_line() -> None:
    with capture_events(CORE, clock=lambda: AT) as captured, tocsin.bind(request_id="6f1c", tenant_id=7):
        tocsin.log("info", "sync started")
    assert captured.lines == [
        b'{"timestamp":"2026-11-23T07:55:12.345Z","level":"INFO","message":"sync started",'
        b'"service":"k12-core","environment":"production","request_id":"6f1c","tenant_id":7}\n'
    ]


def test_absent_fields_are_absent() -> None:
    with capture_events(Settings(), clock=lambda: AT) as captured:
        tocsin.emit("custom", a=None, b=float("nan"), c=0, d="", e=False)
    assert captured.events == [
        {"metric": "custom", "tags": {"c": 0, "d": "", "e": False}, "timestamp": "2026-11-23T07:55:12.345Z"}
    ]


def test_unknown_events_and_fields_go_along() -> None:
    with capture_events() as captured:
        tocsin.emit("library.loan", books=3)
        tocsin.emit("job.queue", shard=2, depth=1, queue="default")
    assert captured.events[0]["tags"] == {"books": 3}
    assert list(captured.events[1]["tags"].items()) == [("queue", "default"), ("depth", 1), ("shard", 2)]


def test_a_field_cannot_take_the_place_of_the_envelope() -> None:
    with capture_events(CORE, clock=lambda: AT) as captured:
        tocsin.log("INFO", "hello", metric="api.request", timestamp="yesterday", level="FATAL")
        tocsin.emit("ai.request", metric="api.request", service="other", tokens=1)
    log, gateway = captured.events
    assert (log["timestamp"], log["level"]) == ("2026-11-23T07:55:12.345Z", "INFO")
    assert "metric" not in log
    assert (gateway["metric"], gateway["service"]) == ("ai.request", "k12-core")


def test_the_service_of_a_deploy_is_the_deployed_one() -> None:
    with capture_events(CORE) as captured:
        tocsin.emit("deploy", service="k12-web", version="2026.11.2")
    assert captured.events[0]["tags"]["service"] == "k12-web"
    assert captured.events[0]["service"] == "k12-core"


def test_a_field_may_be_called_event_or_self() -> None:
    with capture_events() as captured:
        tocsin.emit("custom", self=1, event="x")
        with tocsin.timed("custom", self=1, event="x"):
            pass
    assert [event["tags"]["event"] for event in captured.events] == ["x", "x"]


def test_a_line_that_is_too_long_loses_its_largest_fields() -> None:
    parts = {f"part_{i}": "é \x01" * 1800 for i in range(12)}
    with capture_events() as captured:
        tocsin.emit("custom", tenant_id=7, **parts)
    (line,), (event,) = captured.lines, captured.events
    assert len(line) <= LINE_BYTES
    assert event["tags"]["truncated"] is True
    assert event["tags"]["tenant_id"] == 7
    assert 0 < len(event["tags"].keys() & parts.keys()) < len(parts)


def test_the_longest_possible_message_fits() -> None:
    with capture_events() as captured:
        tocsin.log("INFO", "\x01" * 100_000, note="\x02" * 100_000)
    assert len(captured.lines[0]) <= LINE_BYTES
    assert captured.events[0]["message"].startswith("\x01")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (AT, "2026-11-23T07:55:12.345Z"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_timestamps_are_cut_to_milliseconds(ns: int, text: str) -> None:
    assert timestamp(ns) == text


def test_newlines_and_line_separators_stay_inside_the_line() -> None:
    with capture_events() as captured:
        tocsin.log("INFO", "first\nsecond\r\u2028third")
    assert captured.lines[0].count(b"\n") == 1
    assert orjson.loads(captured.lines[0])["message"] == "first\nsecond\r\u2028third"
