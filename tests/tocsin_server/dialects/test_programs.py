"""Each dialect by an example, and each sample file by what it must give."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from parsing import DATA, REPLAY, books, columns, lines_of, reason, understood

from tocsin_server.dialects import DIALECTS, WRAPPERS, Parsed, parse_line

AT = 1_795_420_512_345_000
T = "2026-11-23T07:55:12.345Z"

EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "canonical": (
        {"timestamp": T, "level": "INFO", "message": "sync started", "service": "k12-core", "tenant_id": 7},
        {
            "ts": AT,
            "name": "log",
            "level": "info",
            "message": "sync started",
            "service": "k12-core",
            "tenant_id": "7",
        },
    ),
    "sidekiq": (
        {
            "ts": T,
            "pid": 1,
            "tid": "g",
            "lvl": "WARN",
            "msg": "fail",
            "ctx": {"class": "J", "jid": "b7", "elapsed": 0.019, "queue": "ai"},
        },
        {
            "ts": AT,
            "name": "log",
            "level": "warn",
            "message": "fail",
            "job_class": "J",
            "queue": "ai",
            "duration_ms": 19.0,
            "attrs": {"pid": 1, "tid": "g", "job_id": "b7"},
        },
    ),
    "bunyan": (
        {
            "name": "api",
            "hostname": "h",
            "pid": 1,
            "level": 50,
            "msg": "m",
            "time": T,
            "req_id": "c1",
            "v": 0,
        },
        {
            "ts": AT,
            "name": "log",
            "level": "error",
            "message": "m",
            "service": "api",
            "request_id": "c1",
            "attrs": {"hostname": "h", "pid": 1},
        },
    ),
    "pino": (
        {"level": 30, "time": AT // 1000, "pid": 17, "hostname": "h", "msg": "done", "responseTime": 3},
        {
            "ts": AT,
            "name": "log",
            "level": "info",
            "message": "done",
            "duration_ms": 3.0,
            "attrs": {"pid": 17, "hostname": "h"},
        },
    ),
    "structlog": (
        {"event": "sync started", "level": "info", "timestamp": T, "logger": "sync"},
        {"ts": AT, "name": "log", "level": "info", "message": "sync started", "attrs": {"logger": "sync"}},
    ),
    "python-json-logger": (
        {"asctime": "2026-11-23 07:55:12,345", "levelname": "CRITICAL", "name": "app.sync", "message": "m"},
        {"ts": AT, "name": "log", "level": "fatal", "message": "m", "attrs": {"logger": "app.sync"}},
    ),
    "loguru": (
        {
            "text": "m\n",
            "record": {
                "time": {"repr": T, "timestamp": AT / 1e6},
                "level": {"name": "WARNING", "no": 30},
                "message": "m",
                "name": "app",
                "function": "run",
                "line": 7,
                "module": "app",
                "extra": {"request_id": "6f1c"},
                "exception": {"type": "KeyError", "value": "'x'"},
            },
        },
        {
            "ts": AT,
            "name": "log",
            "level": "warn",
            "message": "m",
            "request_id": "6f1c",
            "error": "KeyError",
            "attrs": {"logger": "app", "function": "run", "line": 7, "module": "app", "exception": "'?'"},
        },
    ),
    "zap": (
        {"level": "info", "ts": AT / 1e6, "logger": "http", "msg": "handled", "err": "boom"},
        {
            "ts": AT,
            "name": "log",
            "level": "info",
            "message": "handled",
            "error": "boom",
            "attrs": {"logger": "http"},
        },
    ),
    "go-kit": (
        {"caller": "main.go:539", "level": "info", "msg": "m", "ts": T},
        {"ts": AT, "name": "log", "level": "info", "message": "m", "attrs": {"caller": "main.go:539"}},
    ),
    "otlp": (
        {
            "resourceLogs": [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "pay"}}]},
                    "scopeLogs": [
                        {
                            "logRecords": [
                                {
                                    "timeUnixNano": str(AT * 1000),
                                    "severityNumber": 9,
                                    "body": {"stringValue": "a"},
                                },
                                {"severityNumber": 17, "body": {"stringValue": "b"}},
                            ]
                        }
                    ],
                }
            ]
        },
        {
            "ts": AT,
            "name": "log",
            "level": "error",
            "message": "a\nb",
            "service": "pay",
            "attrs": {
                "records": [
                    {"timeUnixNano": str(AT * 1000), "severityNumber": 9, "attributes": {}},
                    {"severityNumber": 17, "attributes": {}},
                ]
            },
        },
    ),
    "json": (
        {"@timestamp": T, "severity": "NOTICE", "msg": "m", "service.name": "x", "env": "staging"},
        {"ts": AT, "name": "log", "level": "info", "message": "m", "service": "x", "environment": "staging"},
    ),
    "docker": (
        {
            "log": '{"timestamp":"' + T + '","level":"error","message":"m","service":"x"}\n',
            "stream": "stderr",
            "time": T,
        },
        {
            "ts": AT,
            "name": "log",
            "level": "error",
            "message": "m",
            "service": "x",
            "attrs": {"stream": "stderr"},
        },
    ),
    "journald": (
        {"__REALTIME_TIMESTAMP": str(AT), "PRIORITY": "3", "SYSLOG_IDENTIFIER": "python", "MESSAGE": "m"},
        {"ts": AT, "name": "log", "level": "error", "message": "m", "service": "python"},
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    fields, expected = EXAMPLES[name]
    result = parse_line(json.dumps(fields).encode(), REPLAY)
    assert isinstance(result, Parsed)
    assert result.dialect == name
    assert columns(result.event) == expected


def test_every_dialect_has_an_example() -> None:
    assert EXAMPLES.keys() == DIALECTS.keys() | WRAPPERS.keys()


def test_sidekiq_text() -> None:
    line = f"{T} pid=19 tid=kyv class=RosterJob jid=58e8b3c7cccf7848fba1ae63 elapsed=0.019 INFO: done"
    result = parse_line(line.encode(), REPLAY)
    assert isinstance(result, Parsed)
    assert result.dialect == "sidekiq"
    assert columns(result.event) == {
        "ts": AT,
        "name": "log",
        "level": "info",
        "message": "done",
        "job_class": "RosterJob",
        "duration_ms": 19.0,
        "attrs": {"pid": "19", "tid": "kyv", "job_id": "58e8b3c7cccf7848fba1ae63"},
    }


def test_metric_behind_any_wrapper_is_an_event() -> None:
    rails = json.dumps(
        {"timestamp": T, "level": "INFO", "message": '[J] {"metric":"sync.run"}', "service": "s"}
    )
    docker = json.dumps({"log": rails + "\n", "stream": "stdout", "time": T})
    journal = json.dumps({"__REALTIME_TIMESTAMP": str(AT), "MESSAGE": rails})
    assert [understood(line).name for line in (rails, docker, journal)] == ["sync.run"] * 3
    assert understood(docker).service == "s"


def test_a_broken_line_inside_docker_is_a_dead_letter() -> None:
    assert reason(b'{"log":"{\\"metric\\": \\n","stream":"stdout","time":"x"}') == "malformed"


SAMPLES = {
    "atticus-app.jsonl": {"log": 354, "http.request": 46},
    "bunyan-all.jsonl": {"log": 18, "blank": 2},
    "bunyan-withreq.jsonl": {"log": 3},
    "docker-json-file.jsonl": {"log": 2},
    "lnav-caddy.jsonl": {"log": 4},
    "lnav-invalid-json.log": {"log": 4, "rejected": 1},
    "lnav-journald.jsonl": {"log": 2},
    "lnav-mixed.log": {"log": 18},
    "lnav-otel-collector.jsonl": {"log": 6},
    "lnav-pino.jsonl": {"log": 1},
    "prometheus.jsonl": {"log": 33},
}


@pytest.mark.parametrize("name", SAMPLES)
def test_books_of_a_sample(name: str) -> None:
    lines = lines_of(f"dialects/{name}")
    assert books(lines) == SAMPLES[name]
    assert sum(SAMPLES[name].values()) == len(lines)


def test_every_sample_file_is_read() -> None:
    assert {path.name for path in (DATA / "dialects").iterdir()} == SAMPLES.keys()


def dialects_of(name: str) -> Counter[str]:
    results = [parse_line(line, REPLAY) for line in lines_of(f"dialects/{name}")]
    return Counter(result.dialect for result in results if isinstance(result, Parsed))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("atticus-app.jsonl", {"structlog": 400}),
        ("bunyan-all.jsonl", {"bunyan": 13, "text": 4, "json": 1}),
        ("bunyan-withreq.jsonl", {"bunyan": 3}),
        ("docker-json-file.jsonl", {"docker": 2}),
        ("lnav-caddy.jsonl", {"zap": 4}),
        ("lnav-journald.jsonl", {"journald": 2}),
        ("lnav-mixed.log", {"json": 13, "text": 5}),
        ("lnav-otel-collector.jsonl", {"otlp": 6}),
        ("lnav-pino.jsonl", {"pino": 1}),
        ("prometheus.jsonl", {"go-kit": 33}),
    ],
)
def test_dialects_of_a_sample(name: str, expected: dict[str, int]) -> None:
    assert dialects_of(name) == expected


def levels_of(name: str) -> list[str | None]:
    return [understood(line).level for line in lines_of(f"dialects/{name}") if line]


def test_levels_of_the_samples() -> None:
    bunyan = ["debug", "debug", "info", "warn", "error", "error", "fatal"]
    assert levels_of("bunyan-all.jsonl")[1:8] == bunyan
    mixed = ["debug", "info", "info"] + [None] * 5 + ["debug"] * 5 + [None, "warn", "error", "fatal", "fatal"]
    assert levels_of("lnav-mixed.log") == mixed
    assert levels_of("lnav-otel-collector.jsonl") == ["warn", "error", "fatal", "info", None, "info"]
    assert levels_of("lnav-journald.jsonl") == ["fatal", "info"]


def test_caddy_access_log() -> None:
    event = understood(lines_of("dialects/lnav-caddy.jsonl")[0])
    assert (event.http_status, event.method, event.duration_ms) == (200, "GET", 17.557)
    assert event.path == "/gentoo/gentoo-distfiles/distfiles/:id/:id"
    assert event.user_id is None
    request = (event.attrs or {})["request"]
    assert request["remote_ip"].startswith("n_")
    assert request["headers"]["User-Agent"] == ["facebookexternalhit 1"]


def test_zoned_times_of_the_samples() -> None:
    assert understood(lines_of("dialects/atticus-app.jsonl")[0]).ts == 1_760_915_737_000_000
    assert understood(lines_of("dialects/docker-json-file.jsonl")[0]).ts == 1_554_476_063_584_269
    assert understood(lines_of("dialects/lnav-pino.jsonl")[0]).ts == 1_745_532_517_537_000
