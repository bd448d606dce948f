"""structlog through our processors, with the real structlog."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

import tocsin
from tests.tocsin.snippets import code
from tocsin.guard import Guard
from tocsin.instrumentation import logging as instrumentation
from tocsin.instrumentation.structlog import processors, render
from tocsin.testing import ListSink, capture_events

PAGE = "instrumentation/structlog.md"


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def captured(capsys: pytest.CaptureFixture[str]) -> Iterator[ListSink]:
    """What the emitter was given; nothing may be printed beside it."""
    structlog.configure(processors=processors())
    with capture_events() as captured:
        yield captured
    assert capsys.readouterr() == ("", "")


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "timestamp"}


def test_an_event_is_one_line_with_everything_that_is_bound(captured: ListSink) -> None:
    log = structlog.get_logger().bind(course_id=7)
    with structlog.contextvars.bound_contextvars(sync_type="roster_sync"), tocsin.bind(request_id="r-1"):
        log.info("sync started", user_id="u-maya", rows=[1, 2])
    (event,) = captured.events
    assert event.pop("user_id").startswith("u_")
    assert without_time(event) == {
        "level": "INFO",
        "message": "sync started",
        "service": "test",
        "environment": "test",
        "request_id": "r-1",
        "course_id": 7,
        "rows": [1, 2],
        "sync_type": "roster_sync",
    }


def test_levels(captured: ListSink) -> None:
    log = structlog.get_logger()
    for method in (log.debug, log.info, log.warning, log.warn, log.error, log.critical, log.fatal):
        method("event")
    log.log(logging.WARNING, "event")
    levels = [event["level"] for event in captured.events]
    assert levels == ["DEBUG", "INFO", "WARNING", "WARNING", "ERROR", "CRITICAL", "CRITICAL", "WARNING"]


def test_what_processors_of_the_host_add_is_understood(captured: ListSink) -> None:
    mine = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso")]
    structlog.configure(processors=[*mine, *processors()])
    structlog.get_logger().warn("event")
    (event,) = captured.events
    assert event["level"] == "WARNING"
    assert "format_error" not in event


@pytest.mark.parametrize(
    "others", [[], [structlog.processors.format_exc_info], [structlog.processors.dict_tracebacks]]
)
def test_an_exception_is_told_without_source_locals_or_its_plain_text(
    captured: ListSink, others: list[Any]
) -> None:
    structlog.configure(processors=[*others, *processors()])
    student = "Maya Lind"
    try:
        raise KeyError(student)
    except KeyError:
        structlog.get_logger().exception("sync failed", stack_info=True)
    (event,) = captured.events
    assert (event["level"], event["message"]) == ("ERROR", "sync failed")
    assert event["exception"] in ("KeyError", ["KeyError"])
    assert any("test_instrument_structlog.py:" in frame for frame in event["stack_info"])
    assert b"Maya" not in captured.lines[0]
    assert b"raise" not in captured.lines[0]


def test_exc_info_of_any_kind(captured: ListSink) -> None:
    log = structlog.get_logger()
    error = KeyError("term")
    for exc_info in (error, (KeyError, error, None), (None, None, None), True, False, None):
        log.error("event", exc_info=exc_info)
    kinds = [event.get("exception") for event in captured.events]
    assert kinds == ["KeyError", "KeyError", None, None, None, None]


def test_async_methods(captured: ListSink) -> None:
    structlog.configure(processors=processors(), wrapper_class=structlog.make_filtering_bound_logger("INFO"))

    async def main() -> None:
        with tocsin.bind(request_id="r-1"):
            await structlog.get_logger().ainfo("event")
            await structlog.get_logger().adebug("too low")

    asyncio.run(main())
    assert [event["request_id"] for event in captured.events] == ["r-1"]


def test_the_name_of_a_logger_of_the_standard_library(captured: ListSink) -> None:
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *processors()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    structlog.get_logger("app.roster").error("class %s", 8)
    assert [(event["logger"], event["message"]) for event in captured.events] == [("app.roster", "class 8")]


def test_S9_arguments_that_do_not_fit(captured: ListSink) -> None:
    structlog.configure(processors=processors(), wrapper_class=structlog.stdlib.BoundLogger)
    structlog.get_logger().info("%d pupils", "x")
    structlog.get_logger().info("%(course)s", {"class": 8})
    structlog.get_logger().info("%(course)s", {"course": 8})
    first, second, third = captured.events
    assert (first["message"], first["format_error"]) == ("%d pupils", "TypeError")
    assert (second["message"], second["format_error"]) == ("%(course)s", "KeyError")
    assert third["message"] == "8"


def test_S9_events_and_keys_of_every_kind(captured: ListSink) -> None:
    log = structlog.get_logger()
    log.info(None)
    log.info(12)
    log.info("x", service="other", metric="api.request")
    assert [event["message"] for event in captured.events] == ["", "12", "x"]
    assert captured.events[2]["format_error"] == "reserved names: service, metric"


def test_an_error_of_ours_is_counted_not_raised(
    captured: ListSink, internal_failures: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Logger):
        @property
        def name(self) -> str:  # type: ignore[override]
            raise RuntimeError

    monkeypatch.setattr(instrumentation, "GUARD", internal_failures)
    structlog.get_logger().info("fine")
    structlog.wrap_logger(Broken.__new__(Broken), processors=processors()).info("lost")
    assert internal_failures.counts == {"log record": 1}
    assert len(captured.lines) == 1


def test_canaries_are_in_no_line(captured: ListSink) -> None:
    name, email, token = "Maya Lind", "maya.lind@example.org", "eyJhbGciOiJIUzI1NiJ9.e30.s3cr3t"
    log = structlog.get_logger().bind(student_name=name, email=email, authorization=f"Bearer {token}")
    log.info(
        f"login of '{name}' <{email}> token={token}", note=f'"{name}"', rows=[{"password": token}, email]
    )
    try:
        raise ValueError(f"student '{name}' ({email}) {token}")
    except ValueError:
        log.exception("failed", stack_info=True)
        structlog.configure(processors=[structlog.processors.format_exc_info, *processors()])
        structlog.get_logger().exception("failed", error=email)
    assert len(captured.lines) == 3
    printed = b"".join(captured.lines).decode()
    assert [secret for secret in (name, email, token) if secret in printed] == []


# --- the page ---


def page_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    output, errors = capsys.readouterr()
    assert errors == ""
    return [orjson.loads(line) for line in output.splitlines()]


def run_blocks(*blocks: int) -> None:
    namespace: dict[str, Any] = {"__name__": "snippet"}
    for block in blocks:
        exec(compile(code(PAGE)[block], f"{PAGE} block {block}", "exec"), namespace)


def test_first_snippet_prints_what_the_page_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_blocks(0)
    (event,) = page_lines(capsys)
    text = (Path(__file__).parents[3] / "docs" / PAGE).read_text()
    shown = next(line for line in text.splitlines() if line.startswith('    {"timestamp"'))
    assert without_time(event) == without_time(orjson.loads(shown))
    logging.getLogger("library").warning("heard, too")
    assert [event["logger"] for event in page_lines(capsys)] == ["library"]


def test_processors_of_the_host_come_before(capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(0, 1)
    capsys.readouterr()
    structlog.get_logger().debug("too low")
    structlog.get_logger().info("event", debug_id=1, course_id=7)
    (event,) = page_lines(capsys)
    assert event["course_id"] == 7
    assert "debug_id" not in event


def test_through_the_processor_formatter(capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(0, 2)
    capsys.readouterr()
    with tocsin.bind(request_id="r-1"):
        structlog.get_logger("app").warning("class %s", 8, course_id=7)
        logging.getLogger("library").info("%s heard", "also", extra={"course_id": 9})
        try:
            raise KeyError("Maya Lind")
        except KeyError:
            structlog.get_logger("app").exception("failed")
            logging.getLogger("library").exception("failed")
    ours, theirs, *failed = page_lines(capsys)
    assert (ours["message"], ours["level"], ours["logger"]) == ("class 8", "WARNING", "app")
    assert (theirs["message"], theirs["level"], theirs["logger"]) == ("also heard", "INFO", "library")
    assert [event["course_id"] for event in (ours, theirs)] == [7, 9]
    assert [(event["exception"], event["exception_message"]) for event in failed] == [
        ("KeyError", "[text]")
    ] * 2
    assert {event["request_id"] for event in (ours, theirs, *failed)} == {"r-1"}


def test_render_uses_the_records_own_time() -> None:
    formatter = structlog.stdlib.ProcessorFormatter(processors=[render])
    record = logging.makeLogRecord({"msg": "late", "created": 1_795_420_512.345, "levelname": "INFO"})
    stream = io.StringIO(formatter.format(record))
    assert orjson.loads(stream.read())["timestamp"] == "2026-11-23T07:55:12.345Z"
