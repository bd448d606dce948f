"""Flask's own route, view and error, with its test client and a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, send_file, stream_with_context
from flask.views import MethodView, View

import tocsin
from tests.tocsin.servers import get, leave_early, wait_for, wsgi_server
from tests.tocsin.snippets import run
from tocsin.instrumentation.flask import instrument
from tocsin.testing import capture_events

CANARY = "Zorquil"


class Courses(MethodView):
    def get(self, course_id: int) -> str:
        return "course"

    def put(self, course_id: int) -> str:
        return "changed"


class About(View):
    def dispatch_request(self) -> str:
        return "about"


def application() -> Flask:
    app = Flask("school")
    reports = Blueprint("reports", __name__, url_prefix="/reports")

    @app.get("/students/<name>")
    def student(name: str) -> str:
        tocsin.annotate(tenant_id=7, user_id=812)
        return name

    @app.get("/broken")
    def broken() -> str:
        raise LookupError(f"{CANARY} has no grade")

    @app.get("/forbidden")
    def forbidden() -> None:
        abort(403)

    @app.get("/file")
    def file() -> Response:
        return send_file(Path(__file__))

    @app.get("/endless")
    def endless() -> Response:
        def pieces() -> Iterator[bytes]:
            while True:
                yield b"x" * 65536

        return Response(stream_with_context(pieces()))

    @reports.get("/<int:report_id>")
    def show(report_id: int) -> str:
        return "report"

    app.register_blueprint(reports)
    app.add_url_rule("/courses/<int:course_id>", view_func=Courses.as_view("courses"))
    app.add_url_rule("/about", view_func=About.as_view("about"))
    instrument(app)
    return app


def requests(captured: Any) -> list[dict[str, Any]]:
    return [event["tags"] for event in captured.events if event.get("metric") == "api.request"]


def one(path: str, method: str = "GET", **options: Any) -> dict[str, Any]:
    with capture_events() as captured:
        application().test_client().open(path, method=method, **options).close()
    (request,) = requests(captured)
    return request


@pytest.mark.parametrize(
    ("method", "path", "answered_by"),
    [
        ("GET", "/students/7", ("/students/<name>", __name__, "student")),
        ("GET", "/reports/7", ("/reports/<int:report_id>", "reports", "show")),
        ("GET", "/courses/7", ("/courses/<int:course_id>", "Courses", "get")),
        ("HEAD", "/courses/7", ("/courses/<int:course_id>", "Courses", "get")),
        ("PUT", "/courses/7", ("/courses/<int:course_id>", "Courses", "put")),
        ("GET", "/about", ("/about", "About", "dispatch_request")),
    ],
)
def test_route_controller_and_action(method: str, path: str, answered_by: tuple[str, str, str]) -> None:
    event = one(path, method)
    assert (event["route"], event["controller"], event["action"]) == answered_by


def test_the_event_is_there_as_soon_as_the_answer_is() -> None:
    with capture_events() as captured:
        application().test_client().get("/reports/7")
        assert requests(captured)[0]["status"] == 200


def test_an_unhandled_exception_is_a_500_with_its_class() -> None:
    event = one("/broken")
    assert (event["status"], event["error"]) == (500, "LookupError")


def test_one_that_flask_lets_escape_is_the_same() -> None:
    app = application()
    app.testing = True
    with capture_events() as captured, pytest.raises(LookupError):
        app.test_client().get("/broken")
    assert [(event["status"], event["error"]) for event in requests(captured)] == [(500, "LookupError")]


def test_an_answer_is_no_error() -> None:
    event = one("/forbidden")
    assert (event["status"], "error" in event) == (403, False)


def test_an_unknown_path_has_no_route() -> None:
    event = one("/nowhere")
    assert (event["status"], "route" in event) == (404, False)


def test_a_file_is_sent_as_before() -> None:
    with capture_events() as captured, wsgi_server(application()) as port:
        answer = get(port, "/file")
    assert answer.endswith(Path(__file__).read_bytes())
    assert requests(captured)[0]["status"] == 200


def test_a_client_that_leaves_early_is_a_499() -> None:
    with capture_events() as captured, wsgi_server(application()) as port:
        leave_early(port, "/endless")
        wait_for(lambda: requests(captured))
    event = requests(captured)[0]
    assert (event["status"], event["route"], event["streaming"]) == (499, "/endless", True)


def test_switched_on_twice_it_counts_once() -> None:
    app = application()
    instrument(app)
    with capture_events() as captured:
        app.test_client().get("/about")
    assert len(requests(captured)) == 1


def test_S14_nothing_of_a_person_is_printed() -> None:
    with capture_events() as captured:
        client = application().test_client()
        headers = {"Authorization": f"Bearer {CANARY}", "Cookie": f"session={CANARY}", "User-Agent": CANARY}
        client.get("/students/zorquil.vexmar@example.org", headers=headers, query_string={"name": CANARY})
        client.get("/broken", headers=headers)
        client.post("/about", data={"name": CANARY})
    printed = b"".join(captured.lines).decode()
    assert CANARY.lower() not in printed.lower()
    assert requests(captured)[0]["user_id"].startswith("u_")


def test_the_page() -> None:
    page = run("instrumentation/flask.md", 0)
    with capture_events() as captured:
        page["app"].test_client().get("/courses/7").close()
    event = requests(captured)[0]
    assert (event["route"], event["controller"], event["tenant_id"]) == (
        "/courses/<int:course_id>",
        "snippet",
        7,
    )


def test_the_page_about_any_wsgi_application() -> None:
    def hello(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    page = run("instrumentation/flask.md", 1, application=hello)
    with capture_events() as captured, wsgi_server(page["application"]) as port:
        get(port, "/")
    assert requests(captured)[0]["status"] == 200
