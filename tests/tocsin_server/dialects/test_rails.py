"""The recorded lines of a real Rails and Sidekiq, counted as the independent script counted them."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from parsing import DATA, REPLAY, books, lines_of, reason, understood

from tocsin_server.columns import Event
from tocsin_server.dialects import Parsed, parse_line

TRUTH = json.loads((DATA / "rails/truth.json").read_text())
LINES = lines_of("rails/web.log") + lines_of("rails/worker.log")
EVENTS: list[Event] = [
    result.event for line in LINES if isinstance(result := parse_line(line, REPLAY), Parsed)
]


def named(name: str) -> list[Event]:
    return [event for event in EVENTS if event.name == name]


def by(name: str, *columns: str) -> dict[str, int]:
    return dict(Counter("/".join(str(getattr(e, c)) for c in columns) for e in named(name)))


def test_books_balance_with_the_truth() -> None:
    counts = books(LINES)
    assert counts.pop("blank") == 2
    assert counts.pop("rejected", 0) == 0
    assert counts.pop("http.request") == TRUTH["request_lines"]
    json_logs = TRUTH["json_lines"] - TRUTH["request_lines"] - sum(TRUTH["events"].values())
    assert counts.pop("log") == json_logs + 1368
    assert counts == TRUTH["events"]
    assert len(LINES) == TRUTH["lines"]


def test_statuses_and_percentiles() -> None:
    requests = named("api.request")
    assert dict(Counter(str(e.http_status) for e in requests)) == TRUTH["api_request"]["by_status"]
    assert {(e.status, (e.http_status or 0) >= 500) for e in requests} == {
        ("success", False),
        ("error", True),
    }
    durations = sorted(e.duration_ms or 0 for e in requests)
    for p in (50, 95, 99):  # nearest rank
        assert durations[math.ceil(len(durations) * p / 100) - 1] == TRUTH["api_request"][f"p{p}"]


@pytest.mark.parametrize(
    ("name", "columns", "key"),
    [
        ("job.completed", ("job_class", "status"), "jobs"),
        ("sync.run", ("provider", "status"), "sync.run"),
        ("auth.login", ("provider", "status"), "auth.login"),
        ("ai.invocation", ("provider", "status"), "ai.invocation"),
    ],
)
def test_counts_by_label(name: str, columns: tuple[str, ...], key: str) -> None:
    assert by(name, *columns) == TRUTH[key]


def test_every_line_of_the_worker_has_its_context() -> None:
    runs = named("sync.run")
    assert all("records_processed" in (e.attrs or {}) for e in runs)
    assert {e.service for e in runs} == {"k12-core"}
    assert {e.environment for e in runs} == {"production"}
    assert all(e.path and "?" not in e.path for e in named("http.request"))


def test_names_and_prompts_of_the_recording_are_gone() -> None:
    kept = repr(EVENTS)
    for planted in ("Zoë", "Schüler 0", "photosynthesis", "Explain fractions", "Biology II"):
        assert planted not in kept


def wrapped(message: str) -> bytes:
    outer = {
        "timestamp": "2026-11-23T14:24:46.706+00:00",
        "level": "INFO",
        "message": message,
        "service": "k12-core",
    }
    return json.dumps(outer).encode()


INNER = '{"metric":"auth.login","tags":{"provider":"saml","status":"failure"}}'


@pytest.mark.parametrize("prefix", ["", "[a] ", "[ActiveJob] [J] [tenant=südschule] ", "  "])
def test_an_object_after_tags_is_the_event(prefix: str) -> None:
    event = understood(wrapped(prefix + INNER))
    assert (event.name, event.provider, event.status) == ("auth.login", "saml", "failure")
    assert (event.ts, event.service, event.level) == (1_795_443_886_706_000, "k12-core", "info")
    assert (event.attrs or {}).get("log_tags") == (prefix.strip() or None)


LOOK_ALIKES = {
    "text before": "client said " + INNER,
    "text after": INNER + " trailing",
    "tag without space": "[a]" + INNER,
    "nested brackets": "[a [b]] " + INNER,
    "ruby hash": "  Parameters: " + INNER,
    "deeper than two": json.dumps({"message": INNER}),
    "string in a string": json.dumps(INNER),
    "array": f"[{INNER}]",
    "not JSON": INNER.replace(":", "=>"),
    "non-finite": '{"metric":"auth.login","tags":{"duration_ms":NaN}}',
}


@pytest.mark.parametrize("message", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_look_alikes_do_not_count(message: str) -> None:
    assert understood(wrapped(message)).name == "log"


def test_a_metric_line_is_not_what_its_message_says() -> None:
    line = json.dumps({"metric": "deploy", "message": INNER}).encode()
    assert understood(line).name == "deploy"


def test_inner_fields_win_and_inner_time_counts() -> None:
    inner = '{"metric":"deploy","level":"warn","service":"core2","timestamp":"2026-11-23T14:00:00Z"}'
    event = understood(wrapped(inner))
    assert (event.level, event.service, event.ts) == ("warn", "core2", 1_795_442_400_000_000)
    unusable = understood(wrapped('{"metric":"deploy","timestamp":"soon"}'))
    assert unusable.ts == 1_795_443_886_706_000


def test_nul_hole_is_a_log_and_hides_no_event() -> None:
    assert understood(b"\0\0").message == "\\u0000\\u0000"
    assert reason(b"\0\0" + wrapped(INNER)) == "nul_bytes"
