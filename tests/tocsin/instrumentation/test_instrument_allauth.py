"""django-allauth as it is installed: its dummy provider, its Google callback and its rate limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from tests.tocsin.django_project.database import set_up

set_up()

from allauth.socialaccount.adapter import get_adapter  # noqa: E402
from allauth.socialaccount.helpers import render_authentication_error  # noqa: E402
from allauth.socialaccount.models import SocialAccount  # noqa: E402
from allauth.socialaccount.providers.oauth2.client import OAuth2Error  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.test import Client, override_settings  # noqa: E402

from tests.tocsin.snippets import run  # noqa: E402
from tocsin.instrumentation.allauth import instrument  # noqa: E402
from tocsin.testing import ListSink, capture_events  # noqa: E402

CANARIES = ("zorquil", "vexmar", "example.org")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    cache.clear()
    yield
    SocialAccount.objects.all().delete()
    User.objects.all().delete()


def logins(captured: ListSink) -> list[dict[str, Any]]:
    printed = b"".join(captured.lines).decode().lower()
    assert [canary for canary in CANARIES if canary in printed] == []
    return [event["tags"] for event in captured.events if event.get("metric") == "auth.login"]


def begin(client: Client, provider: str = "dummy") -> str:
    """The state of a login that the provider is asked for."""
    location = client.post(f"/accounts/{provider}/login/")["Location"]
    return parse_qs(urlparse(location).query)["state"][0]


PERSON = {"id": 812, "username": "zorquil", "first_name": "Zorquil", "email": "zorquil.vexmar@example.org"}


def test_a_social_login_is_counted_once_with_its_provider() -> None:
    with capture_events() as captured:
        for _ in range(2):  # the first makes the account, the second finds it
            client = Client()
            client.post(f"/accounts/dummy/authenticate/?state={begin(client)}", PERSON)
    assert [(event["provider"], event["status"]) for event in logins(captured)] == [("dummy", "success")] * 2


@override_settings(SOCIALACCOUNT_AUTO_SIGNUP=False)
def test_a_login_that_ends_in_a_later_request_keeps_its_provider() -> None:
    client = Client()
    with capture_events() as captured:
        client.post(f"/accounts/dummy/authenticate/?state={begin(client)}", {"id": 812})
        assert logins(captured) == []
        client.post("/accounts/3rdparty/signup/", {"username": "zorquil", "email": PERSON["email"]})
    assert [(event["provider"], event["status"]) for event in logins(captured)] == [("dummy", "success")]


def test_the_person_went_back() -> None:
    client = Client()
    with capture_events() as captured:
        client.post(f"/accounts/dummy/authenticate/?state={begin(client)}", {"action": "cancel"})
        client.get(
            "/accounts/google/login/callback/", {"state": begin(client, "google"), "error": "access_denied"}
        )
    assert [(event["provider"], event["status"]) for event in logins(captured)] == [
        ("dummy", "cancelled"),
        ("google", "cancelled"),
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [({"error": "server_error"}, "server_error"), ({"error": "zorquil"}, "other"), ({}, "provider_error")],
)
def test_the_provider_refuses(answer: dict[str, str], reason: str) -> None:
    client = Client()
    with capture_events() as captured:
        client.get("/accounts/google/login/callback/", {"state": begin(client, "google"), **answer})
    assert [(event["status"], event["reason"]) for event in logins(captured)] == [("failure", reason)]


def test_a_state_that_is_not_ours() -> None:
    with capture_events() as captured:
        Client().get("/accounts/google/login/callback/", {"state": "zorquil", "code": "vexmar"})
    assert [(event["provider"], event["reason"]) for event in logins(captured)] == [
        ("google", "invalid_state")
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"exception": OAuth2Error('token: {"error": "invalid_grant", "for": "zorquil"}')}, "invalid_grant"),
        ({"exception": ConnectionError("zorquil")}, "unreachable"),
        ({"extra_context": {"saml_errors": ["invalid_response"]}}, "invalid_assertion"),
        (
            {"extra_context": {"saml_errors": ["x"], "saml_last_error_reason": "timestamp: expired"}},
            "expired_assertion",
        ),
        ({"error": "denied"}, "access_denied"),
    ],
)
def test_the_reason_is_taken_from_what_there_is(arguments: dict[str, Any], reason: str) -> None:
    request = Client().get("/accounts/login/").wsgi_request
    provider = get_adapter(request).get_provider(request, "google")
    with capture_events() as captured:
        render_authentication_error(request, provider, **arguments)
    assert [(event["provider"], event["reason"]) for event in logins(captured)] == [("google", reason)]


def test_a_password_and_its_rate_limit() -> None:
    User.objects.create_user("zorquil", str(PERSON["email"]), "Vexmar-secret-1")
    with capture_events() as captured:
        for password in ("wrong", "Vexmar-secret-1", "wrong", "wrong"):
            Client().post("/accounts/login/", {"login": "zorquil", "password": password})
    assert [(event["provider"], event["status"]) for event in logins(captured)] == [
        ("password", "failure"),
        ("password", "success"),
        ("password", "failure"),
        ("password", "throttled"),
    ]


def test_the_page() -> None:
    config = run("instrumentation/logins.md", 2)["SchoolConfig"]
    config.ready(None)
    instrument()
    test_a_social_login_is_counted_once_with_its_provider()
