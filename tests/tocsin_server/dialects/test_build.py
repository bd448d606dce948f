"""Canonical fields -> event: kinds, types, aliases, status, identity."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsing import PSEUDONYMS, RECEIVED_AT, REPLAY, columns, lines_of, understood

from tocsin.events import EVENTS
from tocsin_server.columns import Event
from tocsin_server.dialects import REASONS, Context, Parsed, Rejected, parse_line


def event_of(**fields: Any) -> Event:
    return understood(json.dumps(fields))


def metric(name: str, **tags: Any) -> Event:
    return event_of(metric=name, tags=tags, service="s")


def test_the_three_canonical_lines() -> None:
    request = understood(
        '{"metric":"api.request","tags":{"request_id":"6f1c","method":"GET","path":"/api/v1/courses/7","route":"/api/v1/'
        'courses/:id","status":200,"duration_ms":42.6,"user_id":"u_3fa9","tenant_id":7,"controller":"CoursesController",'
        '"action":"show"},"timestamp":"2026-11-23T07:55:12.345Z","service":"k12-core","environment":"production"}'
    )
    assert columns(request) == {
        "ts": 1_795_420_512_345_000,
        "name": "api.request",
        "service": "k12-core",
        "environment": "production",
        "status": "success",
        "http_status": 200,
        "duration_ms": 42.6,
        "tenant_id": "7",
        "user_id": PSEUDONYMS("7", "u_3fa9"),
        "request_id": "6f1c",
        "method": "GET",
        "path": "/api/v1/courses/:id",
        "route": "/api/v1/courses/:id",
        "controller": "CoursesController",
        "action": "show",
    }
    flat = event_of(
        metric="ai.request", provider="openai", tokens=812, status="success", task_type="lesson_plan"
    )
    assert (flat.name, flat.provider, flat.tokens, flat.status) == ("ai.request", "openai", 812, "success")
    assert flat.attrs == {"task_type": "lesson_plan"}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"metric": "x.y"}, "x.y"),
        ({"metric": ""}, "log"),
        ({"metric": 5}, "log"),
        ({"request_id": "a", "method": "GET", "status": 200}, "http.request"),
        ({"request_id": "a", "method": "GET", "status": 200, "metric": "api.request"}, "api.request"),
        ({"request_id": "a", "method": "GET"}, "log"),
        ({}, "log"),
    ],
)
def test_kinds(fields: dict[str, Any], name: str) -> None:
    assert event_of(**fields).name == name


def test_a_field_called_name_is_not_the_event_name() -> None:
    assert event_of(metric="auth.login", tags={"name": "api.request"}).name == "auth.login"


def test_tags_win_but_not_over_metric_and_time() -> None:
    tags = {"service": "core2", "timestamp": 1, "metric": "auth.login"}
    event = event_of(metric="deploy", service="core", timestamp="2026-11-23T07:55:12.345Z", tags=tags)
    assert (event.name, event.service, event.ts) == ("deploy", "core2", 1_795_420_512_345_000)


@pytest.mark.parametrize(
    ("fields", "http_status", "status"),
    [
        ({"status": 200}, 200, "success"),
        ({"status": 499}, 499, "success"),
        ({"status": 500}, 500, "error"),
        ({"status": "503"}, 503, "error"),
        ({"status": "error"}, None, "error"),
        ({"error": "KeyError"}, 500, "error"),
        ({"status": 404, "error": "NotFound"}, 404, "success"),
        ({"http_status": 502}, 502, "error"),
        ({}, None, None),
    ],
)
@pytest.mark.parametrize("name", ["api.request", "http.request"])
def test_status(name: str, fields: dict[str, Any], http_status: int | None, status: str | None) -> None:
    event = metric(name, **fields)
    assert (event.http_status, event.status) == (http_status, status)


def test_a_numeric_status_of_another_event_is_text() -> None:
    assert (metric("ai.request", status=200).status, metric("ai.request", status=200).http_status) == (
        "200",
        None,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_ms", "abc"),
        ("duration_ms", -1),
        ("duration_ms", True),
        ("tokens", 1.5),
        ("tokens", -3),
        ("tokens", 2**64),
        ("probe", "yes"),
        ("http_status", 99),
        ("provider", ["a"]),
        ("level", "STATS"),
    ],
)
def test_a_value_of_no_use_in_its_column_stays_in_attrs(field: str, value: Any) -> None:
    event = metric("x", **{field: value})
    assert getattr(event, field) is None
    assert event.attrs is not None
    assert event.attrs.get(field) == (str(value) if value == 2**64 else value)


def test_aliases_are_read_and_give_way() -> None:
    event = metric("sync.run", record_count=9, error_type="Timeout", user=8, total_tokens=3, latency_ms=1.5)
    assert (event.error, event.tokens, event.duration_ms) == ("Timeout", 3, 1.5)
    assert event.user_id == PSEUDONYMS(None, "8")
    assert event.attrs == {"records_processed": 9}
    both = metric("sync.run", duration_ms=1, latency_ms=2)
    assert (both.duration_ms, both.attrs) == (1.0, {"latency_ms": 2})
    assert metric("health.check", latency_ms=2).attrs == {"latency_ms": 2}


def test_identity() -> None:
    assert event_of(event_id="0123456789abcdef").event_id == "0123456789abcdef"
    short = event_of(event_id="0123456789")
    assert (short.event_id, (short.attrs or {})["event_id"]) == (None, "0123456789")
    assert (event_of(event_id="maria@example.org/1").event_id or "").startswith("u_")


def test_defaults_hold_only_where_the_line_is_silent() -> None:
    context = Context(received_at=RECEIVED_AT, pseudonym=PSEUDONYMS, service="core", environment="staging")
    silent, named = understood(b"text", context), understood(b'{"service":"x","environment":"y"}', context)
    assert (silent.service, silent.environment, silent.received_at) == ("core", "staging", RECEIVED_AT)
    assert (named.service, named.environment) == ("x", "y")


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS)
def test_every_example_of_the_catalogue_is_kept_whole(kind: Any) -> None:
    event = event_of(
        metric=kind.name,
        **({} if kind.flat else {"tags": kind.example}),
        **(kind.example if kind.flat else {}),
    )
    for name, value in kind.example.items():
        if name in ("user_id", "client_network", "path") or (name == "status" and isinstance(value, int)):
            continue
        stored = getattr(event, name, None) if hasattr(event, name) else (event.attrs or {}).get(name)
        assert stored == (str(value) if name == "tenant_id" else value), name


SEEDS = [
    line
    for name in ("bunyan-withreq.jsonl", "lnav-caddy.jsonl", "lnav-journald.jsonl")
    for line in lines_of(f"dialects/{name}")
]
SEEDS += [
    line
    for name in ("lnav-otel-collector.jsonl", "docker-json-file.jsonl")
    for line in lines_of(f"dialects/{name}")
]
SEEDS += lines_of("rails/web.log")[8:60] + lines_of("rails/worker.log")[200:240]
PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"\\",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"NaN",
    b"1e999",
    b"9" * 40,
    b"null",
    b"-1",
    b":",
    b",",
]


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES)), max_size=6),
)
def test_i2_mutated_lines_never_raise_and_the_books_balance(
    seed: bytes, edits: list[tuple[float, int, bytes]]
) -> None:
    line = seed
    for where, cut, piece in edits:
        at = int(where * len(line))
        line = line[:at] + piece + line[at + cut :]
    result = parse_line(line, REPLAY)
    assert result is None or isinstance(result, Parsed) or result.reason in REASONS
    if isinstance(result, Parsed):
        json.dumps(columns(result.event), allow_nan=False).encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    *Event.__slots__,
    "metric",
    "tags",
    "timestamp",
    "msg",
    "log",
    "stream",
    "MESSAGE",
    "__REALTIME_TIMESTAMP",
    "record",
]
KEYS += [
    "text",
    "ts",
    "time",
    "lvl",
    "pid",
    "tid",
    "ctx",
    "v",
    "hostname",
    "asctime",
    "req",
    "res",
    "request",
    "resourceLogs",
    "user",
]


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=10))
def test_i2_any_value_under_any_known_name(fields: dict[str, Any]) -> None:
    result = parse_line(json.dumps(fields).encode(), REPLAY)
    assert isinstance(result, (Parsed, Rejected))
    if isinstance(result, Parsed):
        json.dumps(columns(result.event), allow_nan=False).encode()


@given(st.text(max_size=60))
def test_i11_text_is_stored_raw_but_for_nul(text: str) -> None:
    event = event_of(message="a" + text, service="s\n\x1b[31m", metric="x")
    assert "\0" not in repr(event)
    assert "\x1b[31m" in (event.service or "")
