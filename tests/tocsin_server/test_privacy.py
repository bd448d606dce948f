"""The privacy table: what each small function drops, hashes, cuts and keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.privacy import (
    Pseudonyms,
    clean,
    identifier,
    key_kind,
    label,
    scrub_error,
    scrub_text,
    template_path,
    user_agent,
)

PATHS = {
    "/api/v1/courses/30": "/api/v1/courses/:id",
    "/api/v1/courses/a%00b": "/api/v1/courses/:id",
    "/students/S1234567/essay?name=Maria#top": "/students/:id/essay",
    "/users/maria.lopez": "/users/:id",
    "/oauth2/token": "/oauth2/token",
    "/api/v1/courses/:id(.:format)": "/api/v1/courses/:id(.:format)",
    "users/<int:pk>/": "users/<int:pk>/",
    "/v1/{tenant}/x": "/v1/{tenant}/x",
    "https://u:p@host/api/7": "/api/:id",
    "/6f1c0b52-d94e-4a7e-8423-e9d4d1cd49bd": "/:id",
    "/" + "a" * 41: "/:id",
    "/up": "/up",
    "": "",
    "/": "/",
}


@pytest.mark.parametrize(("path", "template"), PATHS.items(), ids=[p or "empty" for p in PATHS])
def test_template_path(path: str, template: str) -> None:
    assert template_path(path) == template
    assert template_path(template) == template


TEXTS = {
    'Started PATCH "/api/v1/courses/30?q=Zoë" for 127.0.0.1 at 2026-11-23 14:24:46 +0000': (
        'Started PATCH "/api/v1/courses/:id" for <ip> at 2026-11-23 14:24:46 +0000'
    ),
    '"GET /students/812?x=1 HTTP/1.1" 200': '"GET /students/:id HTTP/1.1" 200',
    '{:first=>{:id=>0, :name=>"Schüler 0"}}': "{:first=>{:id=>0, :name=><dropped>}}",
    '  Parameters: {"student"=>"Zoë"}': "  Parameters: <dropped>",
    'got {"course": {"id": 7}, "level": "x"}': 'got {"course": {"id": 7}, "level": "?"}',
    'hash {"course"=>{"id"=>7}, "gone"=>nil}': 'hash {"course"=>{"id"=>7}, "gone"=>nil}',
    'user "maria": login failed': 'user "?": login failed',
    'passed back 33.0 for "Zoë"': 'passed back 33.0 for "?"',
    'say "an unclosed Zoë': 'say "?"',
    "WHERE name = 'O'Brien' AND id = 7": "WHERE name = <dropped> AND id = 7",
    "can't and don't": "can't and don't",
    "he said “Zoë” twice": 'he said "?" twice',
    "mail maria@example.org now": "mail <email> now",
    "mail maria%40example.org": "mail <email>",
    "call 555-123-4567 or +49 30 1234567 or (555) 123-4567": "call <number> or <number> or <number>",
    "card 4929-6495-8333-3657": "card <number>",
    "ssn 123-45-6789": "ssn <number>",
    "student S20251234": "student S<number>",
    "from 2001:db8:7::12 and ::ffff:10.1.2.3": "from <ip> and ::ffff:<ip>",
    "password=hunter2 ok": "password=<dropped> ok",
    "Authorization: Bearer abc.def": "Authorization: <dropped>",
    "Cookie: a=b; c=d": "Cookie: <dropped>",
    "sent bearer abc.def": "sent bearer <secret>",
    "key sk-abcdefghijklmnop1234": "key <secret>",
    "student_id: 812, then": "student_id: <id>, then",
    "postgres://app:secret@db.internal/core?sslmode=on": "postgres://db.internal/core",
    "see https://host/users/812?t=1.": "see https://host/users/:id",
    "/srv/app/lib/fetch.rb:47:in `call'": "/srv/app/lib/fetch.rb:47:in `call'",
    "app/models/user.rb:7": "app/models/user.rb:7",
}


@pytest.mark.parametrize(("text", "scrubbed"), TEXTS.items())
def test_scrub_text(text: str, scrubbed: str) -> None:
    assert scrub_text(text) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "Completed 200 OK in 18ms (Views: 4.1ms | ActiveRecord: 1.6ms | Allocations: 14374)",
        "Processing by Api::V1::CoursesController#update as HTML",
        "[AiGenerationJob] [778bb960-b7fa-4b46-ac33-49e69fba169c] jid=e4652a36926480619f498e55 done",
        "2026-11-23T14:24:46.670123Z took 0.1234567 s at 0x00007f466470d378",
        "Ad::Bad 07:55:12 A::B 1/2 a / b",
        "sync started",
        "",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert scrub_text(text) == text


@given(st.text(max_size=200))
def test_scrubbing_never_raises(text: str) -> None:
    assert len(scrub_error(text)) <= 200
    for name in ("message", "path", "service", "request_id", "email", "user_agent", "anything"):
        assert isinstance(clean(name, text), str)


def test_error_text_is_cut_to_200_characters() -> None:
    assert len(scrub_error("x " * 5000)) == 200


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("k12-core", "k12-core"),
        ("Api::V1::CoursesController", "Api::V1::CoursesController"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet-20241022"),
        ("QtiImportJob", "QtiImportJob"),
        ("S20259999", "S<number>"),
        ("maria@example.org", "<email>"),
        ("10.1.2.3", "<ip>"),
    ],
)
def test_label(text: str, stored: str) -> None:
    assert label(text) == stored


@pytest.mark.parametrize(
    "text", ["6f1c0b52-d94e-4a7e", "1234567890123", "Root=1-67891233-abcdef", "7", "a/b+c=="]
)
def test_identifier_stays(text: str) -> None:
    assert identifier(text) == text


@pytest.mark.parametrize("text", ["maria@example.org", "10.1.2.3", "eyJhbGciOiJIUzI1NiJ9.e30.abc", 'x "Zoë"'])
def test_no_identifier(text: str) -> None:
    assert identifier(text) != text


KINDS = {
    "drop": "Authorization Set-Cookie setCookie HTTP_COOKIE access_token csrf-token api_key apiKey X-Api-Key "
    "client_secret password settings connection_string DATABASE_URL email userEmail e-mail first_name "
    "lastName displayName name student_name guardian_phone guardian_phone_number phone_number address dob "
    "birth_date photo_url "
    "avatar grade finalGrade score feedback comment submission_text iep mealStatus",
    "body": "body request_body responseBody prompt system_prompt completion context messages params query",
    "pseudonym": "user_id session_id sessionId NameID sourcedId google_user_id student_number sis_id "
    "username",
    "person": "user student teacher",
    "network": "ip remote_ip clientIp X-Forwarded-For remoteAddress client_network",
    "agent": "user_agent User-Agent",
    "path": "path url referrer Referer request_uri",
    "error": "error error_message exception stacktrace sql reason",
    "identifier": "run_id trace_id job_id git_sha version created_at",
    "count": "tokens prompt_tokens total_tokens",
    "text": "volume target logger file_name queue_name service_name token_count email_count description",
}


@pytest.mark.parametrize(
    ("key", "kind"), [(key, kind) for kind, keys in KINDS.items() for key in keys.split()]
)
def test_key_kind(key: str, kind: str) -> None:
    assert key_kind(key) == kind


def pseudonyms() -> Pseudonyms:
    return Pseudonyms(lambda tenant: f"secret of {tenant}, 16 bytes".encode(), limit=4)


def test_pseudonyms_are_stable_keyed_by_tenant_and_hashed_again() -> None:
    of = pseudonyms()
    first = of("7", "812")
    assert first == of("7", "812") == pseudonyms()("7", "812")
    assert len({first, of("8", "812"), of(None, "812"), of("7", "813"), of("7", first)}) == 5
    assert first.startswith("u_")
    assert len(first) == 18


def test_the_cache_of_pseudonyms_is_bounded() -> None:
    of = pseudonyms()
    answers = [of("7", str(user)) for user in range(20)]
    assert answers == [of("7", str(user)) for user in range(20)]
    assert len(of._known) <= 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.5", "203.0.113.77", True),
        ("203.0.113.5", "203.0.114.5", False),
        ("203.0.113.5:443", "203.0.113.5, 10.0.0.1", True),
        ("2001:db8:7::1", "[2001:db8:7:9::2]:443", True),
        ("2001:db8:7::1", "2001:db8:8::1", False),
        ("::ffff:203.0.113.9", "203.0.113.5", True),
    ],
)
def test_networks_are_prefixes(one: str, other: str, same: bool) -> None:
    of = pseudonyms()
    assert (of.network(1, one) == of.network(1, other)) is same


def test_networks_change_daily_and_unknown_text_is_hidden() -> None:
    of = pseudonyms()
    assert of.network(1, "203.0.113.5") != of.network(2, "203.0.113.5")
    assert of.network(1, "n_91c5d20e7f3ab648").startswith("n_")
    assert of.network(1, "maria") == "<ip>"


@pytest.mark.parametrize(
    ("header", "family"),
    [
        ("Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/116.0.1 Safari/537.36", "Chrome 116"),
        ("Mozilla/5.0 Chrome/116.0 Safari/537.36 Edg/115.0", "Edge 115"),
        ("Mozilla/5.0 (iPad) AppleWebKit/605 Version/17.1 Mobile Safari/604", "Safari 17"),
        ("Mozilla/5.0 (X11) Gecko/20100101 Firefox/128.0", "Firefox 128"),
        ("python-requests/2.31.0", "python-requests 2"),
        ("Maria's tablet", "other"),
    ],
)
def test_user_agent(header: str, family: str) -> None:
    assert user_agent(header) == family
