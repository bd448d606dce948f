"""What applications use in their own tests."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import tocsin
from tocsin.testing import FrozenClock, ListSink, capture_events

APPLICATION_TEST = """
import tocsin

def test_a_job_says_how_it_went(tocsin_events, tocsin_clock):
    with tocsin.timed("job.completed", job_class="PdfExportJob"):
        tocsin_clock.advance(1.5)
    assert tocsin_events.fields("job.completed") == [
        {"job_class": "PdfExportJob", "status": "success", "duration_ms": 1500.0}
    ]
    assert tocsin_events.events[0]["timestamp"] == "2026-11-23T07:55:01.500Z"
"""


def test_the_fixtures_are_there_for_every_application(tmp_path: Path) -> None:
    (tmp_path / "test_application.py").write_text(APPLICATION_TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()


def test_a_frozen_clock_tells_and_measures(tocsin_events: ListSink, tocsin_clock: FrozenClock) -> None:
    with tocsin.timed("sync.run", provider="oneroster"):
        tocsin_clock.advance(0.25)
    assert tocsin_events.fields("sync.run")[0]["duration_ms"] == 250.0


def test_fields_of_flat_and_tagged_events() -> None:
    with capture_events() as captured:
        tocsin.emit("ai.request", provider="openai", status="success")
        tocsin.emit("job.queue", queue="default", depth=0)
        tocsin.log("INFO", "hello")
    assert captured.fields("ai.request") == [{"provider": "openai", "status": "success"}]
    assert captured.fields("job.queue") == [{"queue": "default", "depth": 0}]
    assert captured.fields("deploy") == []


def test_a_clock_is_frozen_where_it_is_told_to_be() -> None:
    assert FrozenClock(datetime(1970, 1, 1, 0, 0, 1)).__call__() == 1_000_000_000
    assert FrozenClock(datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=UTC))() == 5000
