"""The WSGI middleware against real servers and hostile applications: what it prints, what it leaves alone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tocsin
from tests.tocsin.servers import get, gunicorn, leave_early, wait_for, wsgi_server
from tocsin.instrumentation.http import is_probe, known_method
from tocsin.instrumentation.wsgi import RequestMiddleware
from tocsin.testing import capture_events


def environ(path: str = "/", method: str = "GET", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method}
    setup_testing_defaults(made)
    return {**made, **more}


class Server:
    """What a WSGI server does with an application, step by step."""

    def __init__(self) -> None:
        self.started: tuple[Any, ...] = ()
        self.written: list[bytes] = []

    def start_response(self, *arguments: Any) -> Any:
        self.started = arguments
        return self.written.append

    def serve(self, app: Any, request: dict[str, Any] | None = None) -> bytes:
        body = RequestMiddleware(app)(request or environ(), self.start_response)
        try:
            return b"".join(self.written + list(body))
        finally:
            if hasattr(body, "close"):
                body.close()


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def requests(captured: Any) -> list[dict[str, Any]]:
    return [event["tags"] for event in captured.events if event.get("metric") == "api.request"]


def test_one_request_is_a_line_for_people_and_an_event() -> None:
    ticks = iter([1_000_000_000, 1_042_500_000])
    with capture_events(monotonic=lambda: next(ticks)) as captured:
        assert Server().serve(hello, environ("/courses/7", QUERY_STRING="name=Zorquil")) == b"hello"
    line, event = captured.events
    assert line["level"] == "INFO"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/courses/7", 200)
    assert event["tags"]["duration_ms"] == 42.5
    assert event["tags"]["request_id"] == line["request_id"]
    assert "Zorquil" not in b"".join(captured.lines).decode()


def test_the_callers_request_id_is_kept_and_returned() -> None:
    server = Server()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with capture_events() as captured:
        server.serve(hello, environ(HTTP_X_REQUEST_ID="from-the-proxy", HTTP_TRACEPARENT=trace))
    assert requests(captured)[0]["request_id"] == "from-the-proxy"
    assert requests(captured)[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert dict(server.started[1])["X-Request-ID"] == "from-the-proxy"


def test_an_id_that_the_application_has_set_stays() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("x-request-id", "own")])
        return [b""]

    server = Server()
    with capture_events():
        server.serve(app)
    assert server.started[1] == [("x-request-id", "own")]


def test_it_obeys_the_wsgi_standard() -> None:
    with capture_events() as captured, wsgi_server(validator(RequestMiddleware(validator(hello)))) as port:
        answer = get(port, "/")
    assert answer.endswith(b"hello")
    assert requests(captured)[0]["status"] == 200


def test_a_server_still_sees_that_the_body_is_one_piece() -> None:
    with capture_events(), wsgi_server(RequestMiddleware(hello)) as port:
        assert b"Content-Length: 5" in get(port, "/")


def test_S10_what_a_body_emits_belongs_to_its_request() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for piece in (b"a", b"b"):
            tocsin.annotate(tenant_id=7)
            tocsin.log("INFO", "piece")
            yield piece

    with capture_events() as captured:
        bodies = []
        for name in ("one", "two"):
            request = environ(HTTP_X_REQUEST_ID=name)
            bodies.append(RequestMiddleware(app)(request, Server().start_response))
        iterators = [iter(body) for body in bodies]
        for _ in range(2):
            for iterator in iterators:
                next(iterator)
        for body in bodies:
            list(body)
            body.close()  # type: ignore[attr-defined]
        tocsin.log("INFO", "outside")
    pieces = [event["request_id"] for event in captured.events if event.get("message") == "piece"]
    assert pieces == ["one", "two", "one", "two"]
    assert "request_id" not in captured.events[-1]
    assert [(event["tenant_id"], event["streaming"]) for event in requests(captured)] == [(7, True)] * 2


def test_a_stream_is_measured_to_its_end() -> None:
    clock = [0]

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(3):
            clock[0] += 1_000_000_000
            yield b"x"

    with capture_events(monotonic=lambda: clock[0]) as captured:
        Server().serve(app)
    assert (requests(captured)[0]["duration_ms"], requests(captured)[0]["streaming"]) == (3000, True)


class BrokenError(Exception):
    pass


def test_an_exception_is_a_500_and_goes_on_as_it_is() -> None:
    error = BrokenError("Zorquil Vexmar")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        raise error

    with capture_events() as captured, pytest.raises(BrokenError) as raised:
        Server().serve(app)
    assert raised.value is error
    assert [(event["status"], event["error"]) for event in requests(captured)] == [(500, "BrokenError")]
    assert "Zorquil" not in b"".join(captured.lines).decode()


def test_an_exception_in_the_middle_of_the_body_is_a_500() -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"beginning"
            raise BrokenError

        def close(self) -> None:
            closed.append(True)

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [])
        return Body()

    with capture_events() as captured, pytest.raises(BrokenError):
        Server().serve(app)
    assert [(event["status"], event["error"]) for event in requests(captured)] == [(500, "BrokenError")]
    assert closed == [True]


def test_an_error_answer_given_with_exc_info_names_the_error() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise BrokenError
        except BrokenError as error:
            start_response("502 Bad Gateway", [], (BrokenError, error, None))
        return [b"sorry"]

    server = Server()
    with capture_events() as captured:
        server.serve(app)
    assert server.started[2][0] is BrokenError
    assert [(event["status"], event["error"]) for event in requests(captured)] == [(502, "BrokenError")]


def test_the_write_callable_works() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"written ")
        return [b"returned"]

    with capture_events() as captured:
        assert Server().serve(app) == b"written returned"
    assert requests(captured)[0]["status"] == 200


def test_nobody_to_write_to_is_a_client_that_left() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"written")
        return []

    def start_response(*arguments: Any) -> Any:
        def write(data: bytes) -> None:
            raise BrokenPipeError

        return write

    with capture_events() as captured, pytest.raises(BrokenPipeError):
        RequestMiddleware(app)(environ(), start_response)
    assert requests(captured)[0]["status"] == 499


def test_a_client_that_leaves_early_is_a_499() -> None:
    closed: list[bool] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.append(True)

    with capture_events() as captured, wsgi_server(RequestMiddleware(app)) as port:
        leave_early(port, "/endless")
        wait_for(lambda: requests(captured))
    assert closed == [True]
    event = requests(captured)[0]
    assert (event["status"], event["error"], event["streaming"]) == (499, "ClientDisconnect", True)


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "304 Not Modified")])
def test_a_body_that_no_client_gets_is_not_a_client_that_left(method: str, status: str) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response(status, [])
        return iter([b"never asked for"])

    with capture_events() as captured:
        body = RequestMiddleware(app)(environ(method=method), Server().start_response)
        body.close()  # type: ignore[attr-defined]
    assert requests(captured)[0]["status"] == int(status[:3])


def test_a_file_is_left_to_the_server() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    with capture_events() as captured:
        body = RequestMiddleware(app)(environ(**{"wsgi.file_wrapper": FileWrapper}), Server().start_response)
    assert type(body) is FileWrapper
    assert requests(captured)[0]["status"] == 200


def test_installed_twice_it_counts_once() -> None:
    with capture_events() as captured:
        Server().serve(RequestMiddleware(hello))
    assert len(requests(captured)) == 1


def test_what_is_no_application_fails_as_without_it() -> None:
    with capture_events() as captured, pytest.raises(TypeError, match="not iterable"):
        Server().serve(lambda environ, start_response: None)
    assert requests(captured)[0]["status"] == 500


def test_it_fails_alone(internal_failures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.instrumentation.wsgi.GUARD", internal_failures)
    broken = {**environ(), "PATH_INFO": 7}
    assert Server().serve(hello, broken) == b"hello"
    assert internal_failures.counts == {"wsgi": 1}


@given(st.text(alphabet=st.characters(max_codepoint=255)), st.text())
def test_S8_any_path_and_id_are_survived(path: str, header: str) -> None:
    with capture_events() as captured:
        Server().serve(hello, environ(path, HTTP_X_REQUEST_ID=header, HTTP_TRACEPARENT=header))
    assert requests(captured)[0]["status"] == 200


@pytest.mark.parametrize(
    "path", ["/up", "/health", "/healthz/", "/api/v1/health", "/v1/health/ready", "/metrics"]
)
def test_probes_are_marked(path: str) -> None:
    with capture_events() as captured:
        Server().serve(hello, environ(path))
    assert requests(captured)[0]["probe"] is True


@pytest.mark.parametrize("path", ["/", "/courses/health", "/upload", "/api/v1/health-class", "/healthy"])
def test_what_people_ask_for_is_no_probe(path: str) -> None:
    assert not is_probe(path)


def test_an_invented_method_makes_no_new_value() -> None:
    assert (known_method("GET"), known_method("GET /secret")) == ("GET", "_OTHER")


def test_S4_gunicorn_prints_every_request(tmp_path: Path) -> None:
    output = tmp_path / "lines"
    with gunicorn("tests.tocsin.instrumentation.wsgi_app:app", output, TOCSIN_SERVICE="flask-demo") as port:
        for number in range(5):
            get(port, f"/numbers/{number}")
        get(port, "/stream")
        leave_early(port, "/endless")
    events = [json.loads(line) for line in output.read_text().splitlines()]
    tags = [event["tags"] for event in events if event.get("metric") == "api.request"]
    assert [event["status"] for event in tags] == [200] * 6 + [499]
    assert [event.get("streaming") for event in tags] == [None] * 5 + [True] * 2
    assert {event["route"] for event in tags[:5]} == {"/numbers/<int:number>"}
