"""The privacy table, row by row."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

import tocsin
from tocsin.config import Settings
from tocsin.redact import RULES, Redactor
from tocsin.scrub import error_text, scrub, without_secrets
from tocsin.testing import TEST_KEY, capture_events

REDACTOR = Redactor(TEST_KEY)
DAY = "2026-11-23"

DROPPED = """authorization Authorization Proxy-Authorization cookie Cookie set-cookie Set-Cookie token
access_token refreshToken X-CSRF-Token password user_password client_secret clientSecret secret
api_key apiKey APIKey X-API-Key private_key settings integration_settings connection_string
database_url dsn credentials jwt email e_mail emails contact_email mail_address name first_name
lastName full_name display_name username student_name phone phone_number mobile home_address address
birth_date birthday date_of_birth dob photo_url avatar_url ssn grade grades feedback submission
discussion_text accommodations iep discipline health meal_status medical_notes query query_string"""

COUNTS = """tokens prompt_tokens completion_tokens total_tokens max_tokens users students active_users"""

PEOPLE = """user user_id userId userID current_user_id student_id studentNumber teacher_id guardian_id
session_id session name_id NameID sourcedId sourced_id google_user_id sis_id actor actor_id
triggered_by_id author external_id"""


def redacted(**fields: Any) -> dict[str, Any]:
    return REDACTOR.fields(fields, DAY)


@pytest.mark.parametrize("key", DROPPED.split())
def test_dropped(key: str) -> None:
    assert redacted(**{key: "Maya"}) == {}


@pytest.mark.parametrize("key", COUNTS.split())
def test_counts_stay_and_anything_else_under_their_keys_is_dropped(key: str) -> None:
    assert redacted(**{key: 812}) == {key: 812}
    assert redacted(**{key: "s3cr3t"}) == {}
    assert redacted(**{key: ["s3cr3t"]}) == {}


@pytest.mark.parametrize("key", PEOPLE.split())
@pytest.mark.parametrize("value", [812, "812"])
def test_ids_of_people_become_pseudonyms(key: str, value: object) -> None:
    hashed = hmac.new(TEST_KEY.encode(), b"812", "sha256").hexdigest()
    assert redacted(**{key: value}) == {key: "u_" + hashed[:16]}


def test_a_pseudonym_is_never_hashed_again() -> None:
    once = redacted(user_id=812)
    assert redacted(**once) == once
    assert redacted(user_id="u_nothexadecimal!") != {"user_id": "u_nothexadecimal!"}


def test_pseudonyms_in_lists_stay_linkable_and_objects_about_people_go() -> None:
    assert redacted(user_ids=[812, 813])["user_ids"][0] == redacted(user_id=812)["user_id"]
    assert redacted(student={"id": 812, "shoe_size": 36}) == {}


def test_pseudonyms_depend_on_the_key() -> None:
    assert Redactor("another key of 16+").fields({"user_id": 812}, DAY) != redacted(user_id=812)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("203.0.113.7", "203.0.113.99"),
        ("203.0.113.7", "203.0.113.8, 10.0.0.1"),
        ("203.0.113.7", "203.0.113.9:51234"),
        ("203.0.113.7", "::ffff:203.0.113.7"),
        ("2001:db8:1::1", "2001:db8:1:ffff::2"),
        ("2001:db8:1::1", "[2001:db8:1::1]:443"),
    ],
)
def test_addresses_of_one_network_have_one_hash_a_day(one: str, other: str) -> None:
    first = redacted(ip=one)["ip"]
    assert first == redacted(ip=other)["ip"]
    assert first.startswith("n_")
    assert first != REDACTOR.fields({"ip": one}, "2026-11-24")["ip"]
    assert redacted(ip=first) == {"ip": first}


@pytest.mark.parametrize(
    "key", ["ip", "ip_address", "client_ip", "remote_addr", "X-Forwarded-For", "client_network"]
)
def test_every_name_of_an_address(key: str) -> None:
    assert redacted(**{key: "203.0.113.7"})[key].startswith("n_")
    assert redacted(**{key: "not an address"}) == {}


@pytest.mark.parametrize(
    ("path", "printed"),
    [
        ("/api/v1/courses/7", "/api/v1/courses/7"),
        ("/api/v1/courses/7?student=maya#top", "/api/v1/courses/7"),
        ("/students/90210017/grades", "/students/:id/grades"),
        ("/users/maya@example.org", "/users/:id"),
        ("/users/maya%40example.org", "/users/:id"),
        ("/orgs/0b7c2a1e-5d1f-4c6e-9a53-0a3c1f2b4d5e/users", "/orgs/:id/users"),
        ("https://bob:hunter2@example.org/a?b", "https://:id/a"),
        ("", ""),
    ],
)
def test_paths(path: str, printed: str) -> None:
    assert redacted(path=path, url=path) == {"path": printed, "url": printed}


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox/128"),
        (
            "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.71 Safari/537.36",
            "Chrome/120",
        ),
        ("Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/120.0 Safari/537.36 Edg/120.0", "Edge/120"),
        ("Mozilla/5.0 (Macintosh) AppleWebKit/605 (KHTML) Version/17.1 Safari/605.1.15", "Safari/17"),
        ("curl/8.5.0", "curl/8"),
        ("Mozilla/5.0 (Maya's tablet)", None),
    ],
)
def test_user_agents_keep_family_and_major_version(agent: str, family: str | None) -> None:
    assert redacted(user_agent=agent) == ({} if family is None else {"user_agent": family})


@pytest.mark.parametrize(
    "key", ["prompt", "completion", "request_body", "params", "arguments", "context", "content"]
)
def test_content_leaves_its_length_and_hash(key: str) -> None:
    with capture_events() as captured:
        tocsin.emit("custom", **{key: "Write about Maya. " * 1000})
        tocsin.emit("custom", **{key: {"student": "Maya"}})
    first, second = captured.events
    assert first["tags"][key]["length"] == 18_000
    assert len(first["tags"][key]["hash"]) == 16
    assert second["tags"] == {}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("sync of 42 records took 1830 ms", "sync of 42 records took 1830 ms"),
        ("can't open the teacher's file", "can't open the teacher's file"),
        ("no account maya.lindqvist@example.org!", "no account [email]"),
        ("student 90210017 missing", "student [number] missing"),
        ("born 2014-05-09, call +1 (555) 010-9999", "born [number], call [number]"),
        ("unknown name 'Maya Lindqvist' in \"5b\"", "unknown name [text] in [text]"),
        ("open 'Maya Lindqvist", "open [text]"),
        ("Key (name)=(Maya Lindqvist) already exists", "Key (name)[text] already exists"),
        ("refused by 203.0.113.7 and 2001:db8::1", "refused by [ip] and [ip]"),
        ("postgres://core:hunter2@db/k12 refused", "postgres://[secret]db/k12 refused"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer [secret]"),
        ("password=hunter2; api_key: sk_live", "password=[secret]; api_key: [secret]"),
        ("Faraday::TimeoutError at 07:55:12", "Faraday::TimeoutError at 07:55:12"),
        ("key sk-live-0123456789abcd", "key [secret]"),
    ],
)
def test_free_text_is_scrubbed(text: str, printed: str) -> None:
    assert scrub(text) == printed
    assert redacted(note=text) == {"note": printed}


def test_error_text_is_at_most_200_characters() -> None:
    assert len(error_text("no " * 100)) == 200
    assert redacted(error="E" * 300, error_message="x 'Maya'") == {
        "error": "E" * 199 + "…",
        "error_message": "x [text]",
    }


def test_names_of_things_stay_whole() -> None:
    fields = {
        "request_id": "1234567890",
        "job_id": "b7e2c1f0a9d8",
        "model": "gpt-4o-2024-08-06",
        "job_class": "Sync::RosterJob",
        "route": "/api/v1/courses/:id",
        "version": "2026.11.23",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    assert redacted(**fields) == fields


def test_but_never_with_credentials_or_addresses_in_them() -> None:
    assert redacted(queue="mail maya@example.org", job_id="eyJhbGciOiJIUzI1NiJ9.e30.sig") == {
        "queue": "mail [email]",
        "job_id": "[secret]",
    }


def test_containers_are_redacted_inside() -> None:
    assert redacted(
        rows=[{"email": "m@example.org", "course": 7}],
        headers=[["Cookie", "a=b"], ["Accept", "text/html"], ["X-Forwarded-For", "203.0.113.7"]],
        by_reader={"maya@example.org": 1},
    ) == {
        "rows": [{"course": 7}],
        "headers": [
            ["Cookie", None],
            ["Accept", "text/html"],
            ["X-Forwarded-For", redacted(ip="203.0.113.7")["ip"]],
        ],
        "by_reader": {"[email]": 1},
    }


def test_numbers_and_booleans_stay() -> None:
    fields = {"course_id": 1234567, "ratio": 0.5, "probe": True}
    assert redacted(**fields) == fields


@pytest.mark.parametrize(
    "text", ["a@" * 4000, "'" * 8000, "1" * 8000, "a-" * 4000, ":" * 8000, "://" * 2700, "basic " * 1300]
)
def test_scrubbing_takes_linear_time(text: str) -> None:
    import time

    started = time.process_time()
    scrub(text)
    without_secrets(text[::-1])
    assert time.process_time() - started < 0.2


def test_the_table_says_what_each_row_is_for() -> None:
    assert len({row.what for row in RULES}) == len(RULES)


def test_without_a_key_pseudonyms_are_random_and_that_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin import redact

    redact._process_key.cache_clear()
    with capture_events(Settings()) as captured:
        tocsin.emit("custom", user_id=812)
        tocsin.emit("custom", user_id=812)
    first, second = captured.events
    assert first["tags"] == second["tags"]
    assert capsys.readouterr().err.count("set TOCSIN_PSEUDONYM_KEY") == 1
    redact._process_key.cache_clear()
    with capture_events(Settings()) as captured:
        tocsin.emit("custom", user_id=812)
    assert captured.events[0]["tags"] != first["tags"]
