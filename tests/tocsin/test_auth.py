"""Logins by hand: what an attempt prints, and that nothing but the vocabulary gets out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tocsin
from tests.tocsin.snippets import code, run
from tocsin import auth
from tocsin.testing import ListSink, capture_events


def logins(captured: ListSink) -> list[dict[str, Any]]:
    return [event["tags"] for event in captured.events if event.get("metric") == "auth.login"]


def test_a_login_succeeds_unless_told_otherwise() -> None:
    with capture_events() as captured, auth.login("google", client_network="192.0.2.7") as attempt:
        attempt.tenant_id = 7
    (event,) = logins(captured)
    assert event.pop("client_network").startswith("n_")
    assert event == {"provider": "google", "status": "success", "tenant_id": 7}


def test_a_failure_has_a_reason() -> None:
    with capture_events() as captured, auth.login("saml", tenant_id=7) as attempt:
        attempt.fail("invalid_state")
    assert logins(captured) == [
        {"provider": "saml", "status": "failure", "reason": "invalid_state", "tenant_id": 7}
    ]


def test_a_person_may_change_their_mind() -> None:
    with capture_events() as captured, auth.login("google") as attempt:
        attempt.cancelled()
    assert logins(captured) == [{"provider": "google", "status": "cancelled", "reason": "access_denied"}]


def test_a_rate_limiter_refuses_before_any_login() -> None:
    with capture_events() as captured:
        auth.throttled("google", client_network="192.0.2.7")
    assert logins(captured)[0]["status"] == "throttled"


class OAuthError(Exception):
    """As authlib and oauthlib raise it."""

    def __init__(self, error: str) -> None:
        super().__init__("Zorquil Vexmar is not allowed")
        self.error = error


class ReadTimeoutError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (OAuthError("invalid_grant"), "failure", "invalid_grant"),
        (OAuthError("access_denied"), "cancelled", "access_denied"),
        (OAuthError("zorquil"), "failure", "unexpected_error"),
        (ReadTimeoutError(), "failure", "timeout"),
        (ConnectionRefusedError(), "failure", "unreachable"),
        (KeyError("zorquil"), "failure", "unexpected_error"),
        (asyncio.CancelledError(), "cancelled", "interrupted"),
    ],
)
def test_an_exception_is_a_failure_and_goes_on(error: BaseException, status: str, reason: str) -> None:
    with capture_events() as captured, pytest.raises(type(error)) as raised, auth.login("google"):
        raise error
    assert raised.value is error
    (event,) = logins(captured)
    assert (event["status"], event["reason"]) == (status, reason)
    assert "Zorquil" not in b"".join(captured.lines).decode()


def test_what_was_said_before_the_exception_remains() -> None:
    def callback() -> None:
        with auth.login("saml") as attempt:
            attempt.fail("tenant_not_found")
            raise PermissionError

    with capture_events() as captured, pytest.raises(PermissionError):
        callback()
    assert logins(captured)[0]["reason"] == "tenant_not_found"


def test_S10_attempts_of_two_tasks_do_not_mix() -> None:
    async def attempt(provider: str, code: str) -> None:
        with auth.login(provider):
            await asyncio.sleep(0)
            current = auth.current()
            assert current is not None
            current.fail(code)

    async def both() -> None:
        await asyncio.gather(attempt("google", "invalid_grant"), attempt("saml", "expired_assertion"))

    with capture_events() as captured:
        asyncio.run(both())
    assert {(event["provider"], event["reason"]) for event in logins(captured)} == {
        ("google", "invalid_grant"),
        ("saml", "expired_assertion"),
    }
    assert auth.current() is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("invalid_grant", "invalid_grant"),
        ("user_not_found", "user_not_found"),
        ("csrf_detected", "invalid_state"),
        ("urn:oasis:names:tc:SAML:2.0:status:AuthnFailed", "invalid_credentials"),
        ("urn:oasis:names:tc:SAML:2.0:status:RequestDenied", "access_denied"),
        ("zorquil.vexmar@example.org", "other"),
        (None, "other"),
        (["invalid_grant"], "other"),
    ],
)
def test_reasons_are_of_one_vocabulary(code: object, reason: str) -> None:
    assert auth.reason(code) == reason


@given(st.text())
def test_nothing_else_gets_into_a_reason(code: str) -> None:
    assert auth.reason(code) in auth.REASONS | {"other"}


def test_the_page_about_callbacks() -> None:
    class Request:
        META = {"REMOTE_ADDR": "192.0.2.7"}  # noqa: RUF012
        GET = {"code": "zorquil-code", "state": "good"}  # noqa: RUF012

    answers = []
    names = {"state_is_ours": lambda request: True, "exchange": lambda code: {"email": "zorquil@example.org"}}
    names |= {"find_user": lambda claims: None, "log_in": answers.append, "refuse": lambda: "refused"}
    google_callback = run("instrumentation/logins.md", 0, **names)["google_callback"]
    with capture_events() as captured:
        assert google_callback(Request()) == "refused"
        Request.GET = {"error": "access_denied"}
        google_callback(Request())
    failure, cancelled = logins(captured)
    assert (failure["status"], failure["reason"]) == ("failure", "user_not_found")
    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", "access_denied")
    assert "zorquil" not in b"".join(captured.lines).decode()


def test_the_page_about_rate_limits() -> None:
    class Request:
        META = {"REMOTE_ADDR": "192.0.2.7"}  # noqa: RUF012

    too_many = run("instrumentation/logins.md", 1)["too_many"]
    with capture_events() as captured:
        too_many(Request())
    assert logins(captured)[0]["status"] == "throttled"


def test_the_page_names_every_reason() -> None:
    page = "\n".join(code("instrumentation/logins.md", "text"))
    assert set(page.split()) == auth.REASONS | {"other"}
    assert tocsin.auth is auth
