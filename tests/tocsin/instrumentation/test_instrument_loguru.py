"""loguru through our sink, with the real loguru."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from loguru import logger

import tocsin
from tests.tocsin.snippets import run
from tocsin.guard import Guard
from tocsin.instrumentation import logging as instrumentation
from tocsin.instrumentation.loguru import sink
from tocsin.testing import ListSink, capture_events

PAGE = "instrumentation/loguru.md"


@pytest.fixture(autouse=True)
def _loguru_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logger.remove()
    yield
    logger.remove()
    logger.add(sys.__stderr__)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def captured(capsys: pytest.CaptureFixture[str]) -> Iterator[ListSink]:
    """What the emitter was given; nothing may be printed beside it."""
    logger.add(sink, format="{message}", level=0)
    with capture_events() as captured:
        yield captured
    assert capsys.readouterr() == ("", "")


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "timestamp"}


class RosterError(Exception):
    pass


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("no term")
        self.held = lambda: None


def test_a_message_is_one_line_with_extra_and_what_is_bound(captured: ListSink) -> None:
    with tocsin.bind(request_id="r-1"), logger.contextualize(sync_type="roster_sync"):
        logger.bind(course_id=7).info("class {} of {room}", 8, room="B2", user_id="u-maya")
    (event,) = captured.events
    assert event.pop("user_id").startswith("u_")
    assert without_time(event) == {
        "level": "INFO",
        "message": "class 8 of B2",
        "service": "test",
        "environment": "test",
        "request_id": "r-1",
        "sync_type": "roster_sync",
        "course_id": 7,
        "room": "B2",
        "logger": __name__,
    }


def test_levels_keep_their_names(captured: ListSink) -> None:
    for method in (logger.trace, logger.debug, logger.info, logger.success, logger.warning, logger.error):
        method("message")
    logger.critical("message")
    logger.log(33, "message")
    levels = [event["level"] for event in captured.events]
    assert levels == ["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL", "LEVEL 33"]


def test_the_time_is_that_of_the_message(captured: ListSink) -> None:
    def back(record: Any) -> None:
        record["time"] = datetime(2026, 11, 23, 7, 55, 12, 345_000, tzinfo=UTC)

    logger.patch(back).info("late")
    assert captured.events[0]["timestamp"] == "2026-11-23T07:55:12.345Z"


def test_lazy_colours_and_raw(captured: ListSink) -> None:
    logger.opt(lazy=True).info("sum {}", lambda: sum(range(4)))
    logger.opt(colors=True).info("<red>hot</red> {}", 1)
    logger.opt(raw=True).info("raw\n")
    assert [event["message"] for event in captured.events] == ["sum 6", "hot 1", "raw\n"]


def test_an_exception_is_told_without_source_locals_or_its_plain_text(captured: ListSink) -> None:
    student = "Maya Lind"
    try:
        try:
            raise KeyError(student)
        except KeyError as error:
            raise RosterError(f"'{student}'") from error
    except RosterError:
        logger.exception("sync failed")
    (event,) = captured.events
    assert (event["level"], event["message"]) == ("ERROR", "sync failed")
    assert (event["exception"], event["exception_message"]) == ("RosterError", "[text]")
    assert event["stacktrace"][0].split(":")[0].endswith("test_instrument_loguru.py")
    assert [cause["exception"] for cause in event["causes"]] == ["KeyError"]
    assert b"Maya" not in captured.lines[0]
    assert b"raise" not in captured.lines[0]


def test_catch(captured: ListSink) -> None:
    @logger.catch(message="caught")
    def fail() -> None:
        raise RosterError

    fail()
    (event,) = captured.events
    assert (event["message"], event["exception"]) == ("caught", "RosterError")
    assert event["stacktrace"][-1].endswith("fail")


@pytest.mark.parametrize("kind", [RosterError, UnpicklableError])
def test_behind_a_queue(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    with capture_events() as captured:
        logger.add(sink, format="{message}", enqueue=True)
        try:
            raise kind
        except Exception:
            logger.exception("sync failed", course_id=7)
        logger.complete()
        logger.remove()
    (event,) = captured.events
    assert (event["message"], event["exception"], event["course_id"]) == ("sync failed", kind.__name__, 7)
    assert event["stacktrace"][-1].endswith(" test_behind_a_queue")
    assert capsys.readouterr() == ("", "")


def test_S9_reserved_names_are_left_out_and_named(captured: ListSink) -> None:
    logger.bind(service="other", tags=1).info("x")
    (event,) = captured.events
    assert event["service"] == "test"
    assert event["format_error"] == "reserved names: service, tags"


def test_exc_info_without_an_exception(captured: ListSink) -> None:
    logger.exception("none is handled")
    assert "exception" not in captured.events[0]


def test_an_error_of_ours_is_counted_not_raised(
    internal_failures: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrumentation, "GUARD", internal_failures)
    message: Any = SimpleNamespace(record={})
    sink(message)
    assert internal_failures.counts == {"log record": 1}


def test_canaries_are_in_no_line(captured: ListSink) -> None:
    name, email, token = "Maya Lind", "maya.lind@example.org", "eyJhbGciOiJIUzI1NiJ9.e30.s3cr3t"
    log = logger.bind(student_name=name, email=email, authorization=f"Bearer {token}")
    log.info("login of '{}' <{}> token={}", name, email, token, note=f'"{name}"', rows=[{"password": token}])
    try:
        raise ValueError(f"student '{name}' ({email}) {token}")
    except ValueError:
        log.exception("failed")
    assert len(captured.lines) == 2
    printed = b"".join(captured.lines).decode()
    assert [secret for secret in (name, email, token) if secret in printed] == []


def test_the_snippet_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    run(PAGE, 0, __name__="__main__")
    output, errors = capsys.readouterr()
    assert errors == ""
    text = (Path(__file__).parents[3] / "docs" / PAGE).read_text()
    shown = next(line for line in text.splitlines() if line.startswith('    {"timestamp"'))
    (event,) = map(orjson.loads, output.splitlines())
    assert without_time(event) == without_time(orjson.loads(shown))
