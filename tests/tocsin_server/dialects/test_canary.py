"""Synthetic students, planted wherever a line can hold them: nothing of them may be in the event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsing import REPLAY

from tocsin_server.columns import Event
from tocsin_server.dialects import Parsed, parse_line

NAME = "Maria Quintanilla"
CANARIES = {
    "email": "maria.quintanilla@school.example",
    "phone": "555-867-5309",
    "number": "S20417755",
    "ip": "198.51.100.23",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl",
    "quoted": f'"{NAME}"',
    "url": "https://maria:hunter2@lms.example/u/20417755?name=Quintanilla",
}
#: What of each may not be seen anywhere.
TRACES = ("Quintanilla", "quintanilla", "867-5309", "20417755", "198.51.100", "eyJhb", "hunter2", "canary")

FIELDS: dict[str, Any] = {
    "first_name": "Maria",
    "lastName": "Quintanilla",
    "name": NAME,
    "email": CANARIES["email"],
    "guardian_phone_number": CANARIES["phone"],
    "address": "7 Quintanilla Street",
    "student": {"id": 20417755, "name": NAME, "grade": "A"},
    "user": {"id": "20417755", "email": CANARIES["email"]},
    "student_number": 20417755,
    "sourcedId": "20417755",
    "session_id": "20417755-quintanilla",
    "remote_ip": CANARIES["ip"],
    "X-Forwarded-For": [CANARIES["ip"]],
    "User-Agent": f"{NAME}'s tablet",
    "Authorization": f"Bearer {CANARIES['token']}",
    "cookies": ["quintanilla=20417755"],
    "settings": {"oauth": "hunter2"},
    "dsn": "postgres://u:hunter2@db/quintanilla",
    "prompt": f"write to {NAME}",
    "messages": [{"role": "user", "content": NAME}],
    "params": {"student": NAME},
    "feedback": f"{NAME} was late",
    "url": CANARIES["url"],
    "referrer": CANARIES["url"],
    "headers": {
        "Cookie": "quintanilla",
        "deep": {"deeper": [{"email": CANARIES["email"]}, CANARIES["email"]]},
    },
    CANARIES["email"]: 1,
    "note": f"{CANARIES['email']} / {CANARIES['phone']} / {CANARIES['number']} / {CANARIES['ip']}",
    "error_message": f"no user '{NAME}' ({CANARIES['email']})",
    "exception": f'KeyError: "{NAME}"',
    "sql": f"SELECT * FROM users WHERE name = '{NAME}' AND sis = 20417755",
    "list": list(CANARIES.values()),
}
TEXT = (
    f'User "{NAME}" <{CANARIES["email"]}> from {CANARIES["ip"]} phone {CANARIES["phone"]} '
    f"no {CANARIES['number']} token {CANARIES['token']} {CANARIES['url']} "
    "GET /students/20417755/q.uintanilla?name=Quintanilla student_name=Quintanilla "
    f"email: {CANARIES['email']}"
)
T = "2026-11-23T07:55:12.345Z"


def wrapped(inner: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {"timestamp": T, "level": "INFO", "message": prefix + json.dumps(inner), "service": "core"}


LINES: dict[str, Any] = {
    "text": TEXT,
    "sidekiq text": f"{T} pid=1 tid=a class=J jid=b INFO: {TEXT}",
    "canonical log": {"timestamp": T, "service": "core", "message": TEXT, **FIELDS},
    "metric tags": {"metric": "api.request", "tags": {**FIELDS, "path": CANARIES["url"]}, "service": "core"},
    "metric flat": {"metric": "ai.request", **FIELDS, "message": TEXT},
    "rails": wrapped({"metric": "sync.run", "tags": FIELDS}),
    "rails tags": wrapped(
        {"metric": "sync.run", "tags": FIELDS}, f"[{CANARIES['email']}] [{CANARIES['ip']}] "
    ),
    "rails request": wrapped(
        {"request_id": CANARIES["email"], "method": "GET", "status": 200, "path": CANARIES["url"]}
    ),
    "rails parameters": wrapped({"name": NAME}, "  Parameters: "),
    "sidekiq": {"ts": T, "pid": 1, "tid": "a", "lvl": "INFO", "msg": TEXT, "ctx": FIELDS},
    "bunyan": {
        **FIELDS,
        "name": "api",
        "hostname": "h",
        "pid": 1,
        "level": 30,
        "msg": TEXT,
        "time": T,
        "v": 0,
    },
    "pino": {
        **FIELDS,
        "name": "api",
        "level": 30,
        "time": 1,
        "msg": TEXT,
        "req": {"url": CANARIES["url"], "headers": FIELDS},
    },
    "structlog": {**FIELDS, "event": TEXT, "level": "info", "timestamp": T},
    "python-json-logger": {**FIELDS, "name": "app", "asctime": T, "levelname": "INFO", "message": TEXT},
    "loguru": {
        "text": TEXT,
        "record": {"message": TEXT, "extra": FIELDS, "exception": {"type": "E", "value": TEXT}},
    },
    "zap": {
        **FIELDS,
        "level": "info",
        "ts": 1.7e9,
        "msg": TEXT,
        "request": {"uri": CANARIES["url"], "headers": FIELDS},
    },
    "go-kit": {**FIELDS, "caller": "a.go:1", "level": "info", "msg": TEXT, "ts": T},
    "json": {**FIELDS, "msg": TEXT},
    "docker": {"log": TEXT + "\n", "stream": "stdout", "time": T, "attrs": FIELDS},
    "docker json": {"log": json.dumps({"message": TEXT, **FIELDS}), "stream": "stdout", "time": T},
    "journald": {"__REALTIME_TIMESTAMP": "1795420512345000", "MESSAGE": TEXT, **FIELDS},
    "otlp": {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": [{"key": k, "value": {"stringValue": str(v)}} for k, v in FIELDS.items()]
                },
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "body": {"stringValue": TEXT},
                                "attributes": [{"key": "email", "value": {"stringValue": CANARIES["email"]}}],
                            },
                            {
                                "body": {
                                    "kvlistValue": {
                                        "values": [{"key": "email", "value": {"stringValue": TEXT}}]
                                    }
                                }
                            },
                        ]
                    }
                ],
            }
        ]
    },
    "overflow": {**{f"f{i}": i for i in range(256)}, **FIELDS},
    "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": FIELDS}}}}}}}}}},
    "labels": {
        column: CANARIES["email"]
        for column in Event.__slots__
        if column not in ("ts", "attrs", "received_at", "source")
    },
    "label addresses": dict.fromkeys(
        ("service", "request_id", "queue", "status", "event_id"), CANARIES["ip"]
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_no_student_is_in_the_event(name: str) -> None:
    line = LINES[name]
    result = parse_line((line if isinstance(line, str) else json.dumps(line)).encode(), REPLAY)
    assert isinstance(result, Parsed)
    kept = repr(result.event)
    assert [trace for trace in TRACES if trace in kept] == []


@given(
    st.permutations(list(FIELDS)),
    st.lists(st.sampled_from(["a", "req", "data", "extra"]), max_size=9),
    st.text(max_size=5),
)
def test_canaries_at_any_depth(order: list[str], path: list[str], noise: str) -> None:
    value: Any = {key: FIELDS[key] for key in order} | {"noise": noise}
    for key in path:
        value = {key: [value]}
    result = parse_line(json.dumps({"metric": "x", "tags": value}).encode(), REPLAY)
    assert isinstance(result, Parsed)
    kept = repr(result.event)
    assert [trace for trace in TRACES if trace in kept] == []


def test_what_is_left_of_a_student_is_a_pseudonym_and_a_length() -> None:
    fields = {
        "metric": "x",
        "tenant_id": 7,
        "user_id": 20417755,
        "student_number": "20417755",
        "prompt": "Maria",
    }
    result = parse_line(json.dumps(fields).encode(), REPLAY)
    assert isinstance(result, Parsed)
    attrs = result.event.attrs or {}
    assert result.event.user_id == attrs["student_number"]
    assert attrs["prompt_length"] == 5
    assert len(attrs["prompt_hash"]) == 16
    assert attrs.keys() == {"student_number", "prompt_length", "prompt_hash"}
