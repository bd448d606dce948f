"""A real Django project under its test client, gunicorn and uvicorn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import tocsin
from tests.tocsin.django_project.database import set_up

set_up()

from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import FileResponse, HttpResponse  # noqa: E402
from django.test import AsyncClient, Client, RequestFactory, override_settings  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from tests.tocsin.django_project import views  # noqa: E402
from tests.tocsin.servers import (  # noqa: E402
    asgi_server,
    get,
    gunicorn,
    leave_early,
    wait_for,
    wsgi_server,
)
from tests.tocsin.snippets import code, run  # noqa: E402
from tocsin.instrumentation import asgi, django, wsgi  # noqa: E402
from tocsin.instrumentation.logins import client_address, provider_of_backend  # noqa: E402
from tocsin.testing import capture_events  # noqa: E402

CANARY = "Zorquil"


def events(captured: Any, name: str = "api.request") -> list[dict[str, Any]]:
    return [event["tags"] for event in captured.events if event.get("metric") == name]


def client() -> Client:
    return Client(raise_request_exception=False)


def one(path: str, method: str = "GET", **options: Any) -> dict[str, Any]:
    with capture_events() as captured:
        response = client().generic(method, path, **options)
        if response.streaming:
            response.getvalue()
    (event,) = events(captured)
    return event


def one_async(path: str) -> dict[str, Any]:
    async def ask() -> None:
        response = await AsyncClient(raise_request_exception=False).get(path)
        if response.streaming:
            async for _ in response.streaming_content:
                pass

    with capture_events() as captured:
        asyncio.run(ask())
    (event,) = events(captured)
    return event


@pytest.fixture
def user() -> Iterator[User]:
    made = User.objects.create_user("zorquil", "zorquil.vexmar@example.org", "Vexmar-secret-1")
    yield made
    made.delete()


VIEWS = "tests.tocsin.django_project.views"


@pytest.mark.parametrize(
    ("method", "path", "answered_by"),
    [
        ("GET", "/api/v1/courses/7", ("/api/v1/courses/<int:course_id>", VIEWS, "show")),
        ("GET", "/api/v1/courses", ("/api/v1/courses", "Courses", "get")),
        ("POST", "/api/v1/courses", ("/api/v1/courses", "Courses", "post")),
        ("GET", "/api/v1/reports", ("/api/v1/reports", "Reports", "list")),
        ("POST", "/api/v1/reports", ("/api/v1/reports", "Reports", "create")),
        ("GET", "/api/v1/terms/2026/", ("/api/v1/terms/(?P<course_id>[0-9]{4})/", VIEWS, "show")),
    ],
)
def test_route_controller_and_action(method: str, path: str, answered_by: tuple[str, str, str]) -> None:
    event = one(path, method)
    assert (event["route"], event["controller"], event["action"]) == answered_by


def test_the_same_when_django_is_asynchronous() -> None:
    event = one_async("/api/v1/courses/7")
    assert (event["status"], event["action"]) == (200, "show")
    assert event["route"] == "/api/v1/courses/<int:course_id>"


def test_all_lines_of_a_request_have_its_id_and_the_answer_too() -> None:
    with capture_events() as captured:
        response = client().get("/api/v1/courses/7", headers={"X-Request-ID": "from-the-proxy"})
    assert [event.get("request_id", "from-the-proxy") for event in captured.events] == ["from-the-proxy"] * 3
    assert response["X-Request-ID"] == "from-the-proxy"


@pytest.mark.parametrize("path", ["/broken", "/broken-async"])
def test_an_unhandled_exception_is_a_500_with_its_class(path: str) -> None:
    assert [(event["status"], event["error"]) for event in (one(path), one_async(path))] == [
        (500, "LookupError")
    ] * 2


@override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True)
def test_one_that_django_lets_escape_is_the_same() -> None:
    with capture_events() as captured, pytest.raises(LookupError, match="has no grade"):
        client().get("/broken")
    assert [(event["status"], event["error"]) for event in events(captured)] == [(500, "LookupError")]


@pytest.mark.parametrize(("kind", "status"), [("missing", 404), ("denied", 403), ("suspicious", 400)])
def test_what_django_answers_is_no_error(kind: str, status: int) -> None:
    event = one(f"/refused/{kind}")
    assert (event["status"], "error" in event) == (status, False)


def test_an_unknown_path_has_no_route() -> None:
    event = one("/nowhere")
    assert (event["status"], "route" in event) == (404, False)


@pytest.mark.parametrize("ask", [one, one_async])
def test_a_stream_is_measured_to_its_end(ask: Any) -> None:
    event = ask("/stream-async" if ask is one_async else "/stream")
    assert (event["status"], event["streaming"]) == (200, True)


def test_what_a_stream_emits_belongs_to_its_request() -> None:
    with capture_events() as captured:
        response = client().get("/stream", headers={"X-Request-ID": "one"})
        assert events(captured) == []
        assert response.getvalue() == b"abc"
    assert [event["request_id"] for event in captured.events[:3]] == ["one"] * 3
    assert events(captured)[0]["request_id"] == "one"


def test_a_stream_that_breaks_is_a_500() -> None:
    with capture_events() as captured, pytest.raises(LookupError):
        client().get("/broken-stream").getvalue()
    assert [(event["status"], event["error"]) for event in events(captured)] == [(500, "LookupError")]


def test_a_client_that_leaves_wsgi_early_is_a_499() -> None:
    with capture_events() as captured, wsgi_server(get_wsgi_application()) as port:
        leave_early(port, "/endless")
        wait_for(lambda: events(captured))
    assert (events(captured)[0]["status"], events(captured)[0]["streaming"]) == (499, True)


def test_a_client_that_leaves_asgi_early_is_a_499() -> None:
    with capture_events() as captured, asgi_server(get_asgi_application()) as port:
        leave_early(port, "/endless-async")
        wait_for(lambda: events(captured))
    assert (events(captured)[0]["status"], events(captured)[0]["streaming"]) == (499, True)


def test_a_client_that_does_not_wait_for_the_answer_is_a_499() -> None:
    async def leave() -> None:
        asking = asyncio.ensure_future(AsyncClient().get("/slow"))
        while not captured.events:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    with capture_events() as captured:
        asyncio.run(leave())
    assert [event["status"] for event in events(captured)] == [499]


def test_a_file_response_stays_one() -> None:
    with capture_events() as captured:
        response = django.RequestMiddleware(views.file)(RequestFactory().get("/file"))
        assert type(response) is FileResponse
        assert response.file_to_stream is not None
        assert events(captured) == []
        response.close()
    assert events(captured)[0]["status"] == 200
    with capture_events() as captured, wsgi_server(get_wsgi_application()) as port:
        assert b"class Courses" in get(port, "/file")
    assert events(captured)[0]["status"] == 200


def test_the_user_is_printed_when_the_view_has_loaded_it(user: User) -> None:
    asking = client()
    with capture_events() as captured:
        asking.force_login(user)
        asking.get("/me")
        asking.get("/tenant")
    loaded, other = events(captured)
    assert loaded["user_id"].startswith("u_")
    assert "user_id" not in other
    assert other["tenant_id"] == 7


def test_S8_the_middleware_makes_no_query(user: User) -> None:
    asking = client()
    asking.force_login(user)
    with (
        capture_events() as captured,
        CaptureQueriesContext(
            connection,
        ) as queries,
    ):
        asking.get("/anyone")
    assert len(queries) == 0
    assert "tenant_id" not in events(captured)[0]


def test_what_the_application_annotates_wins() -> None:
    assert one_async("/annotating")["tenant_id"] == 7


def test_a_probe_is_marked() -> None:
    assert one("/up")["probe"] is True


def test_listed_twice_it_counts_once() -> None:
    middleware = ["tocsin.instrumentation.django.RequestMiddleware"] * 2
    with override_settings(MIDDLEWARE=middleware):
        assert one("/api/v1/courses")["action"] == "get"


def test_inside_the_wsgi_middleware_it_tells_that_one() -> None:
    with capture_events() as captured, wsgi_server(wsgi.RequestMiddleware(get_wsgi_application())) as port:
        get(port, "/api/v1/courses")
        get(port, "/broken")
    assert [(event["route"], event.get("error")) for event in events(captured)] == [
        ("/api/v1/courses", None),
        ("/broken", "LookupError"),
    ]


def test_inside_the_asgi_middleware_it_tells_that_one() -> None:
    with capture_events() as captured, asgi_server(asgi.RequestMiddleware(get_asgi_application())) as port:
        get(port, "/api/v1/courses")
        wait_for(lambda: events(captured))
    assert [(event["route"], event["status"]) for event in events(captured)] == [("/api/v1/courses", 200)]


def test_it_fails_alone(internal_failures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django, "GUARD", internal_failures)
    answer = HttpResponse("fine")
    request = RequestFactory().get("/")
    request.META = Mock(get=Mock(side_effect=RuntimeError))
    assert django.RequestMiddleware(lambda _: answer)(request) is answer
    assert internal_failures.counts == {"django": 2}


def test_S4_gunicorn_prints_every_request(tmp_path: Path) -> None:
    output = tmp_path / "lines"
    with gunicorn("tests.tocsin.django_project.wsgi", output) as port:
        for _ in range(3):
            get(port, "/api/v1/courses")
        get(port, "/stream")
        get(port, "/file")
        leave_early(port, "/endless")
    printed = [json.loads(line) for line in output.read_text().splitlines()]
    tags = [event["tags"] for event in printed if event.get("metric") == "api.request"]
    assert [event["status"] for event in tags] == [200] * 5 + [499]
    assert [event.get("streaming") for event in tags] == [None] * 3 + [True] * 3


def log_in(asking: Client, password: str = "Vexmar-secret-1", path: str = "/login", **extra: Any) -> None:
    asking.post(path, {"username": "zorquil", "password": password}, **extra)


def test_a_login_is_an_event(user: User) -> None:
    with capture_events() as captured:
        log_in(client())
        log_in(client(), "wrong")
    success, failure = events(captured, "auth.login")
    assert (success["provider"], success["status"]) == ("password", "success")
    assert (failure["provider"], failure["status"]) == ("password", "failure")
    assert failure["reason"] == "invalid_credentials"
    assert success["client_network"].startswith("n_")


def test_inside_an_attempt_of_our_own_it_is_counted_once(user: User) -> None:
    with capture_events() as captured:
        log_in(client(), path="/callback")
        log_in(client(), "wrong", path="/callback")
    assert [(event["provider"], event["status"]) for event in events(captured, "auth.login")] == [
        ("saml", "success"),
        ("saml", "failure"),
    ]
    assert [event["tenant_id"] for event in events(captured, "auth.login")] == [7, 7]


def test_forwarded_addresses_count_only_behind_trusted_proxies() -> None:
    meta = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.9, 203.0.113.5"}
    assert [client_address(meta, trusted) for trusted in (0, 1, 2, 3)] == [
        "10.0.0.1",
        "203.0.113.5",
        "198.51.100.9",
        "10.0.0.1",
    ]


@pytest.mark.parametrize(
    ("backend", "provider"),
    [
        ("django.contrib.auth.backends.ModelBackend", "password"),
        ("django.contrib.auth.backends.RemoteUserBackend", "remote_user"),
        ("social_core.backends.google.GoogleOAuth2", "google"),
        ("social_core.backends.saml.SAMLAuth", "saml"),
        ("djangosaml2.backends.Saml2Backend", "saml"),
        ("mozilla_django_oidc.auth.OIDCAuthenticationBackend", "oidc"),
        ("django_auth_ldap.backend.LDAPBackend", "ldap"),
        ("school.backends.Badge", "other"),
    ],
)
def test_the_backend_names_the_provider(backend: str, provider: str) -> None:
    assert provider_of_backend(backend) == provider


def test_S14_nothing_of_a_person_is_printed(user: User) -> None:
    headers = {"Authorization": f"Bearer {CANARY}", "Cookie": f"name={CANARY}", "Referer": f"/{CANARY}"}
    with capture_events() as captured:
        asking = client()
        log_in(asking)
        log_in(client(), f"{CANARY}-wrong")
        asking.get("/me", {"name": CANARY}, headers=headers)
        asking.post("/broken", {"name": CANARY}, headers=headers)
        asking.get("/nowhere/zorquil.vexmar@example.org", headers=headers)
        asking.get("/refused/missing", headers=headers)
    printed = b"".join(captured.lines).decode().lower()
    assert [canary for canary in ("zorquil", "vexmar", "example.org") if canary in printed] == []
    assert len(events(captured)) == 6


def test_the_page_about_settings() -> None:
    settings = run("instrumentation/django.md", 0)
    with capture_events() as captured, override_settings(MIDDLEWARE=settings["MIDDLEWARE"]):
        client().get("/api/v1/courses")
    assert events(captured)[0]["route"] == "/api/v1/courses"


def test_the_page_about_logins(user: User) -> None:
    config = run("instrumentation/django.md", 1)["SchoolConfig"]
    config.ready(None)
    with capture_events() as captured:
        log_in(client())
    assert len(events(captured, "auth.login")) == 1


def test_the_page_about_tenants() -> None:
    middleware = run("instrumentation/django.md", 2)["tenant_middleware"]
    with capture_events() as captured:
        inner = middleware(lambda request: HttpResponse())
        django.RequestMiddleware(inner)(
            RequestFactory().get("/", headers={"host": "springfield.example.org"})
        )
    assert events(captured)[0]["tenant_id"] == "springfield"


def test_the_page_has_no_other_snippets() -> None:
    assert len(code("instrumentation/django.md")) == 3
    assert tocsin.instrument("django", trusted_proxies=0) is None
