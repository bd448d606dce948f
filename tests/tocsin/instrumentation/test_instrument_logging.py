"""The standard library's ``logging`` through our handler and formatter, also in real servers."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import pickle
import queue
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import pytest

import tocsin
from tests.tocsin.snippets import code, run
from tocsin.guard import Guard
from tocsin.instrumentation import logging as instrumentation
from tocsin.instrumentation.logging import Formatter, Handler, install
from tocsin.testing import ListSink, capture_events

PAGE = "instrumentation/logging.md"

SECRETS = ("maya.lind@example.org", "Maya Lind", "eyJhbGciOiJIUzI1NiJ9.e30.s3cr3t", "4711471147", "hunter2")


@pytest.fixture
def captured() -> Iterator[ListSink]:
    with capture_events() as captured:
        yield captured


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger with our handler alone."""
    logger = logging.Logger("app.roster", logging.DEBUG)
    logger.addHandler(Handler())
    yield logger
    for handler in logger.handlers:
        handler.close()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, which is put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "timestamp"}


# --- what a line says ---


def test_a_record_is_one_line_with_what_is_bound(captured: ListSink, logger: logging.Logger) -> None:
    with tocsin.bind(request_id="r-1", tenant_id=7):
        logger.warning("class %s without a %s", 8, "teacher", extra={"course_id": 9, "user_id": "u-maya"})
    (event,) = captured.events
    assert event.pop("user_id").startswith("u_")
    assert without_time(event) == {
        "level": "WARNING",
        "message": "class 8 without a teacher",
        "service": "test",
        "environment": "test",
        "request_id": "r-1",
        "tenant_id": 7,
        "course_id": 9,
        "logger": "app.roster",
    }


def test_the_time_is_that_of_the_record(captured: ListSink) -> None:
    record = logging.makeLogRecord({"msg": "late", "created": 1_795_420_512.345})
    Handler().handle(record)
    assert captured.events[0]["timestamp"] == "2026-11-23T07:55:12.345Z"
    assert orjson.loads(Formatter().format(record)) == captured.events[0]


@pytest.mark.parametrize("created", [None, "yesterday", float("nan"), float("inf"), -1, 10**30])
def test_a_record_without_a_proper_time_is_from_now(captured: ListSink, created: object) -> None:
    Handler().handle(logging.makeLogRecord({"msg": "odd", "created": created}))
    assert captured.events[0]["timestamp"].startswith("20")


def test_levels_keep_their_names_whoever_renames_them(captured: ListSink, logger: logging.Logger) -> None:
    logging.addLevelName(logging.WARNING, "\x1b[33mWARN\x1b[0m")
    logging.addLevelName(25, "NOTICE")
    try:
        for level in (10, 20, 25, 30, 40, 50):
            logger.log(level, "level")
    finally:
        logging.addLevelName(logging.WARNING, "WARNING")
    levels = [event["level"] for event in captured.events]
    assert levels == ["DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"]


def test_an_exception_is_told_without_source_locals_or_its_plain_text(
    captured: ListSink, logger: logging.Logger
) -> None:
    try:
        student = "Maya Lind"
        try:
            raise KeyError(student)
        except KeyError as error:
            raise ValueError(f"no row for '{student}' <maya.lind@example.org>") from error
    except ValueError:
        logger.exception("sync failed", stack_info=True)
    (event,) = captured.events
    assert (event["level"], event["exception"]) == ("ERROR", "ValueError")
    assert event["exception_message"] == "no row for [text] <[email]>"
    assert [cause["exception"] for cause in event["causes"]] == ["KeyError"]
    frames = [*event["stacktrace"], *event["causes"][0]["stacktrace"], *event["stack_info"]]
    assert all(re.fullmatch(r"[^'\"]+:\d+ \S+|<\d+ more>", frame) for frame in frames), frames
    assert b"Maya" not in captured.lines[0]
    assert b"student" not in captured.lines[0]


def test_exc_info_of_any_kind(captured: ListSink, logger: logging.Logger) -> None:
    logger.error("instance", exc_info=KeyError("a"))
    logger.exception("none is handled")
    Handler().handle(logging.makeLogRecord({"msg": "odd", "exc_info": True}))
    Handler().handle(logging.makeLogRecord({"msg": "odd", "exc_info": (KeyError, None, None)}))
    assert [event.get("exception") for event in captured.events] == ["KeyError", None, None, None]


def test_formatter_makes_the_handlers_line(captured: ListSink) -> None:
    try:
        raise KeyError("term")
    except KeyError:
        record = logging.LogRecord("app", 40, __file__, 1, "no %s", ("term",), sys.exc_info())
    before = dict(vars(record))
    line = Formatter().format(record)
    assert vars(record) == before
    Handler().handle(record)
    assert "\n" not in line
    assert orjson.loads(line) == captured.events[0]


def test_formatter_formats_also_where_the_emitter_is_switched_off() -> None:
    tocsin.configure(enabled=False)
    assert orjson.loads(Formatter().format(logging.makeLogRecord({"msg": "x"})))["message"] == "x"


# --- what else `logging` can do ---


def test_filters_and_levels_of_the_handler_count(captured: ListSink, logger: logging.Logger) -> None:
    (handler,) = logger.handlers
    handler.addFilter(lambda record: "secret" not in record.msg)
    handler.setLevel("INFO")
    logger.debug("too low")
    logger.info("secret")
    logger.info("heard")
    assert [event["message"] for event in captured.events] == ["heard"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a filter returns only yes or no")
def test_a_filter_may_put_another_record_in_its_place(captured: ListSink, logger: logging.Logger) -> None:
    other: Any = logging.makeLogRecord({"msg": "other"})
    logger.handlers[0].addFilter(lambda record: other)
    logger.info("one")
    assert [event["message"] for event in captured.events] == ["other"]


def test_logger_adapter(captured: ListSink, logger: logging.Logger) -> None:
    options: dict[str, Any] = {"merge_extra": True} if sys.version_info >= (3, 13) else {}
    logging.LoggerAdapter(logger, {"course_id": 7}, **options).info("adapted")
    assert captured.events[0]["course_id"] == 7


def test_warnings_are_captured(captured: ListSink, root: logging.Logger) -> None:
    install()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            warnings.warn("old roster format", DeprecationWarning, stacklevel=1)
        finally:
            logging.captureWarnings(False)
    (event,) = captured.events
    assert (event["logger"], event["level"]) == ("py.warnings", "WARNING")
    assert "old roster format" in event["message"]


def test_behind_a_queue_the_traceback_in_the_message_becomes_fields(captured: ListSink) -> None:
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    logger = logging.Logger("app")
    logger.addHandler(logging.handlers.QueueHandler(records))  # type: ignore[arg-type]
    try:
        raise KeyError("Maya Lind")
    except KeyError:
        logger.exception("%s failed", "sync")
    listener = logging.handlers.QueueListener(records, Handler())  # type: ignore[arg-type]
    listener.start()
    listener.stop()
    (event,) = captured.events
    assert (event["message"], event["exception"]) == ("sync failed", "KeyError")
    assert event["stacktrace"][0].startswith("test_instrument_logging.py:") or "/" in event["stacktrace"][0]
    assert b"Maya" not in captured.lines[0]


def test_a_record_from_another_process_keeps_its_exception(captured: ListSink) -> None:
    record = logging.makeLogRecord({"msg": "sync failed"})
    try:
        raise KeyError("term")
    except KeyError:
        record.exc_text = logging.Formatter().formatException(sys.exc_info())  # type: ignore[arg-type]
    Handler().handle(pickle.loads(pickle.dumps(record)))
    assert captured.events[0]["exception"] == "KeyError"


def test_a_record_class_of_the_host_makes_its_own_message(captured: ListSink) -> None:
    class BraceRecord(logging.LogRecord):
        def getMessage(self) -> str:
            return str(self.msg).format(*self.args or ())

    Handler().handle(BraceRecord("app", 20, "", 0, "class {}", (8,), None))
    assert captured.events[0]["message"] == "class 8"


def test_a_handler_survives_shutdown_and_has_no_lock(captured: ListSink) -> None:
    handler = Handler()
    handler.acquire()
    handler.flush()
    handler.close()
    handler.release()
    assert handler.lock is None
    handler.handle(logging.makeLogRecord({"msg": "last words"}))
    assert captured.events[0]["message"] == "last words"


# --- wrong use ---


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("maya.lind@example.org")

    __repr__ = __str__


S9 = {
    "wrong_type": ("%d pupils", ("x",)),
    "too_few": ("%s of %s", ("one",)),
    "too_many": ("no place", ("one", "two")),
    "missing_key": ("%(course)s", ({"class": 1},)),
    "raising_argument": ("student %s", (Hostile(),)),
    "raising_message": (Hostile(), ()),
    "half_a_format": ("100%", ("one",)),
}


@pytest.mark.parametrize(("message", "args"), S9.values(), ids=S9)
def test_S9_arguments_that_do_not_fit(
    captured: ListSink,
    logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    message: Any,
    args: tuple[Any, ...],
) -> None:
    logger.info(message, *args)
    (event,) = captured.events
    assert event["message"] == (message if isinstance(message, str) else "<unrepr: Hostile>")
    kind, place = event["format_error"].split(" at ")
    assert kind in {"TypeError", "KeyError", "RuntimeError", "ValueError"}
    assert "test_instrument_logging.py:" in place
    assert b"maya" not in captured.lines[0]
    record = logging.LogRecord("app", 20, "", 0, message, args, None)
    assert orjson.loads(Formatter().format(record))["format_error"] == kind
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("message", [None, 12, 1.5, b"bytes", ["list"], {"a": 1}, ValueError("no term")])
def test_S9_a_message_that_is_not_text(captured: ListSink, logger: logging.Logger, message: object) -> None:
    logger.info(message)
    assert isinstance(captured.events[0]["message"], str)
    assert "format_error" not in captured.events[0]


def test_S9_reserved_names_are_left_out_and_named(captured: ListSink, logger: logging.Logger) -> None:
    logger.info("x", extra={"service": "other", "tags": {"a": 1}, "level": "LOUD", "course_id": 7})
    (event,) = captured.events
    assert (event["service"], event["level"], event["course_id"]) == ("test", "INFO", 7)
    assert event["format_error"] == "reserved names: service, tags, level"
    assert "tags" not in event


def test_S9_keys_that_are_not_text(captured: ListSink, logger: logging.Logger) -> None:
    logger.info("x", extra={1: "one", None: 2, ("a",): 3})  # type: ignore[dict-item]
    assert captured.events[0]["1"] == "one"


def test_S7_an_argument_that_logs_while_it_is_formatted(
    captured: ListSink, logger: logging.Logger, internal_failures: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrumentation, "GUARD", internal_failures)

    class Chatty:
        def __str__(self) -> str:
            logger.debug("query %s", "SELECT")
            return "chatty"

    class Endless:
        def __str__(self) -> str:
            logger.debug("I am %s", self)
            return "endless"

    logger.info("%s", Chatty())
    assert [event["message"] for event in captured.events] == ["query SELECT", "chatty"]
    assert internal_failures.dropped == 0
    logger.info("%s", Endless())
    assert [event["message"] for event in captured.events[2:]] == ["I am endless", "endless"]
    assert internal_failures.counts == {"log record": 1}


def test_S7_a_sink_that_logs_does_not_go_on_for_ever(
    root: logging.Logger, internal_failures: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrumentation, "GUARD", internal_failures)
    lines: list[bytes] = []

    def chatty_sink(batch: list[bytes]) -> None:
        lines.extend(batch)
        logging.getLogger("sink").error("wrote %s", len(batch))

    tocsin.configure(sink=chatty_sink, log_level="INFO")
    logging.getLogger("app").info("one")
    assert tocsin.flush()
    assert len(lines) == 1
    assert internal_failures.counts == {"reentrant": 1}


def test_an_error_of_ours_is_counted_not_raised(
    logger: logging.Logger,
    internal_failures: Guard,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(instrumentation, "GUARD", internal_failures)
    monkeypatch.setattr(instrumentation, "line_of", lambda record: 1 / 0)
    logger.info("lost")
    assert orjson.loads(Formatter().format(logging.makeLogRecord({})))["level"] == "ERROR"
    logger.handlers[0].handleError(logging.makeLogRecord({}))
    assert internal_failures.counts == {"log record": 3}
    assert capsys.readouterr() == ("", "")


# --- the root logger ---


def test_install_is_idempotent_and_leaves_the_hosts_handlers_alone(root: logging.Logger) -> None:
    mine = logging.StreamHandler(io.StringIO())
    root.addHandler(mine)
    before = root.level
    install()
    assert root.level == before
    install("debug")
    install(logging.ERROR)
    assert root.level == logging.ERROR
    assert mine in root.handlers
    assert sum(isinstance(handler, Handler) for handler in root.handlers) == 1
    with pytest.raises(ValueError):
        install("LOUD")


# --- privacy ---


def test_canaries_are_in_no_line(captured: ListSink, logger: logging.Logger) -> None:
    email, name, token, number, password = SECRETS
    extra = {
        "student_name": name,
        "email": email,
        "authorization": f"Bearer {token}",
        "note": f'"{name}" of {email}, no. {number}',
        "nested": {"password": password, "rows": [{"student_id": number}, f"password={password}"]},
    }
    logger.info("login of '%s' <%s> token=%s no. %s", name, email, token, number, extra=extra)
    logger.info("%(user)r", {"user": name})
    logger.info('"%s" %d', name, "x", extra=extra)
    try:
        raise ValueError(f"student '{name}' ({email}), key={number}, {token}, password={password}")
    except ValueError as error:
        error.add_note(name)
        logger.exception("failed: %s", error, stack_info=True, extra={"error_detail": repr(error)})
        logger.error("again", exc_info=ExceptionGroup(f"'{name}'", [error]))
    printed = b"".join(captured.lines).decode() + Formatter().format(
        logging.makeLogRecord({"msg": f"'{name}' {email}", **extra})
    )
    assert len(captured.lines) == 5
    assert [secret for secret in SECRETS if secret in printed] == []


# --- the page, in the real frameworks ---


def lines_of(output: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.splitlines()]


def test_first_snippet_prints_what_the_page_says(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(PAGE, 0)
    (event,) = lines_of(capsys.readouterr().out)
    text = (Path(__file__).parents[3] / "docs" / PAGE).read_text()
    shown = next(line for line in text.splitlines() if line.startswith('    {"timestamp"'))
    assert without_time(event) == without_time(orjson.loads(shown))


def test_django_settings(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(code(PAGE)[1])
    (tmp_path / "app.py").write_text("""
import django, logging
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.urls import path
import snippet

def hello(request):
    logging.getLogger("app").info("hello %s", "maya.lind@example.org")
    return HttpResponse("hi")

def fail(request):
    raise ValueError("student 'Maya Lind'")

urlpatterns = [path("hello", hello), path("fail", fail)]
settings.configure(ROOT_URLCONF=__name__, LOGGING=snippet.LOGGING, ALLOWED_HOSTS=["*"], DEBUG=False)
django.setup()
client = Client(raise_request_exception=False)
assert client.get("/hello").status_code == 200
assert client.get("/missing").status_code == 404
assert client.get("/fail?token=hunter2").status_code == 500
""")
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    hello, failed = lines_of(done.stdout)
    assert (hello["message"], hello["logger"]) == ("hello [email]", "app")
    assert (failed["logger"], failed["level"], failed["exception"]) == (
        "django.request",
        "ERROR",
        "ValueError",
    )
    assert failed["stacktrace"][-1].endswith(" fail")
    assert [secret for secret in SECRETS if secret in done.stdout + done.stderr] == []


APP = """
import logging

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    logging.getLogger("app").info("hello %s", "maya.lind@example.org")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hi"})

def wsgi(environ, start_response):
    logging.getLogger("app").info("hello %s", "maya.lind@example.org")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"hi"]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve(command: list[str], port: int, folder: Path) -> str:
    """What a real server prints that answers one request and is then told to stop."""
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        try:
            until_answered(lambda: urlopen(f"http://127.0.0.1:{port}/?token=hunter2", timeout=10).close())
            server.send_signal(signal.SIGTERM)
            output, errors = server.communicate(timeout=30)
        finally:
            server.kill()
    assert "Traceback" not in errors
    return output


def until_answered(ask: Callable[[], None]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_uvicorn_with_the_log_config(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "logging.json").write_text(code(PAGE, "json")[0])
    port = free_port()
    output = serve(
        ["uvicorn", "app:app", "--port", str(port), "--log-config", "logging.json"], port, tmp_path
    )
    events = lines_of(output)
    assert {"app", "uvicorn.error"} <= {event["logger"] for event in events}
    assert "uvicorn.access" not in {event["logger"] for event in events}
    assert sum(event["message"] == "hello [email]" for event in events) == 1
    assert any("Uvicorn running on" in event["message"] for event in events)
    assert "hunter2" not in output


def test_gunicorn_with_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(code(PAGE)[2])
    port = free_port()
    bind = f"127.0.0.1:{port}"
    output = serve(["gunicorn", "app:wsgi", "--bind", bind, "--no-control-socket"], port, tmp_path)
    events = lines_of(output)
    assert {event["logger"] for event in events} == {"app", "gunicorn.error"}
    assert sum(event["message"] == "hello [email]" for event in events) == 1
    assert any(event["message"].startswith("Listening at") for event in events)


def test_celery_worker_with_the_signal(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        code(PAGE)[3]
        + """
from celery import Celery
from celery.signals import task_postrun, worker_ready
from celery.utils.log import get_task_logger
from celery.worker import state

app = Celery("app", broker="memory://")
app.conf.update(worker_enable_remote_control=False, broker_connection_retry_on_startup=False)
left = ["greet", "fail"]

@app.task
def greet():
    get_task_logger(__name__).info("hello %s", "maya.lind@example.org")

@app.task
def fail():
    raise ValueError("student 'Maya Lind'")

@worker_ready.connect
def send(**_):
    greet.delay()
    fail.delay()

@task_postrun.connect
def stop(task, **_):
    left.pop()
    if not left:
        state.should_stop = 0

app.worker_main(["--quiet", "worker", "--pool=solo", "--without-gossip", "--without-mingle"])
"""
    )
    # Celery hands its log level to child processes in the environment, also that of other tests here.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    events = lines_of(done.stdout)
    ours = {event["logger"]: event for event in events}
    assert ours["__main__"]["message"] == "hello [email]", done.stderr
    assert ours["celery.app.trace"]["exception"] == "ValueError"
    assert sum(event["logger"] == "celery.app.trace" for event in events) == 1
    assert "Maya Lind" not in done.stdout + done.stderr


def test_formatter_in_a_file(tmp_path: Path, root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(PAGE, 4)
    logging.getLogger("app").info("to the file", extra={"course_id": 7})
    (event,) = lines_of((tmp_path / "app.jsonl").read_text())
    assert (event["message"], event["course_id"]) == ("to the file", 7)
