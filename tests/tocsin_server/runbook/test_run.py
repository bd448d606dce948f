"""Executing a runbook: what may run, what is sent, how it is bounded, what is kept (rows I15, O13, O14)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import histories
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from runbooks_for_tests import AS_OF, http_connection, over, runbook, step
from servers import reply, serving

from tocsin_server.clock import frozen_clock
from tocsin_server.config import Connection, Secret
from tocsin_server.errors import TocsinError
from tocsin_server.outbound import Answer as Reply
from tocsin_server.runbook.breaker import FAILURES, PAUSE_US
from tocsin_server.runbook.evidence import as_json, canonical_sha256, record
from tocsin_server.runbook.inputs import Values, check_given, resolve
from tocsin_server.runbook.model import Answer, Input, Runbook, Step
from tocsin_server.runbook.parse import parse
from tocsin_server.runbook.run import Phase, Tools, execute

CLOCK = frozen_clock(AS_OF)
NOTHING = Values({}, {})


def tools(events: Iterable[histories.Event] = (), core: str = "", auto: bool = True, **given: Any) -> Tools:
    connections = {"core": http_connection(core, auto)} if core else {}
    return Tools(over(events), **{"connections": connections, **given})


def answers(
    book: Runbook, use: Tools, values: Values = NOTHING, phase: Phase = "fire", **given: Any
) -> Mapping[str, Answer]:
    return execute(book, values, use, CLOCK, as_of_us=AS_OF, phase=phase, **given).answers


def answer(one: Step, use: Tools, values: Values = NOTHING, phase: Phase = "manual", **fields: Any) -> Answer:
    return answers(runbook(one, **fields), use, values, phase)[one.id]


def recording(status: int = 200, body: bytes = b"{}", **headers: str) -> tuple[list[str], Any]:
    """Request lines that a server saw, and the server's way to answer."""
    seen: list[str] = []

    def answering(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.requestline)
        reply(status, body, **headers)(handler)

    return seen, answering


# --- steps over events ------------------------------------------------------------------------------------

COUNTED = """
SELECT service, count(*) AS failures FROM events
WHERE http_status >= 500 AND ts > :as_of - :since::interval AND ts <= :as_of
GROUP BY ALL
"""
SINCE = Input("since", "duration", "1h")


def test_a_step_over_events_binds_its_inputs_and_the_instant() -> None:
    use = tools(
        [*histories.requests(3, start=601, status=500), *histories.requests(9, start=1301, status=500)]
    )
    found = answer(step("count", COUNTED), use, resolve([SINCE], {}, {}, AS_OF), inputs=[SINCE])
    assert (found.status, found.columns, found.rows) == ("ok", ("service", "failures"), (("k12-core", 3),))
    assert found.parameters == {"as_of": "1970-01-01T00:20:00Z", "since": "1h"}
    assert (found.rendered, found.target) == (COUNTED.strip(), "events")
    assert found.started_at == AS_OF
    narrow = answer(step("count", COUNTED), use, resolve([SINCE], {"since": "1m"}, {}, AS_OF))
    assert narrow.rows == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("DELETE FROM events", "is not a SELECT"),
        ("SELECT 1 FROM events; SELECT 2 FROM events", "2 statements"),
        ("COPY events TO '/tmp/x'", "is not a SELECT"),
        ("SELECT * FROM read_text('/etc/passwd')", "may not stand in FROM"),
        ("SELECT :nobody AS x FROM events", "`:nobody` is no input of this runbook"),
        ("SELECT ? AS x FROM events", "a parameter without a name"),
        ("", "no statement"),
    ],
)
def test_O17_what_is_not_one_reading_select_is_refused(body: str, said: str) -> None:
    found = answer(step("bad", body), tools())
    assert found.status == "refused"
    assert said in found.reason


def test_rows_and_bytes_are_bounded_and_the_cut_is_recorded() -> None:
    use = tools(histories.requests(30))
    body = "SELECT path, event_id FROM events ORDER BY ts"
    by_rows = answer(step("many", body, max_rows=7), use)
    assert (len(by_rows.rows), by_rows.truncated) == (7, True)
    by_bytes = answer(step("many", body, max_bytes=200), use)
    assert 0 < len(json.dumps(by_bytes.rows)) <= 200
    assert by_bytes.truncated
    whole = answer(step("many", body), use)
    assert (len(whole.rows), whole.truncated) == (30, False)


def test_a_statement_that_takes_too_long_is_stopped() -> None:
    use = tools(histories.requests(400))
    body = "SELECT count(*) AS n FROM events a, events b, events c, events d"
    started = time.monotonic()
    found = answer(step("slow", body, timeout_s=0.2), use)
    assert (found.status, time.monotonic() - started < 20) == ("failed", True)
    assert "was stopped after 0.2 s" in found.reason
    assert found.duration_ms is not None


def test_only_the_named_columns_are_kept() -> None:
    use = tools(histories.requests(1, user_id="u_0123456789abcdef"))
    body = "SELECT user_id, service, http_status FROM events"
    found = answer(step("some", body, columns=("http_status", "service")), use)
    assert (found.columns, found.rows) == (("http_status", "service"), ((200, "k12-core"),))
    assert "has no column nobody" in answer(step("some", body, columns=("nobody",)), use).reason


def test_values_of_every_type_become_json() -> None:
    body = (
        "SELECT ts, ts::date AS d, 1.5::decimal(10,2) AS n, interval '90s' AS i, [1, 2] AS l, {'a': 1} AS s, "
        "'\\x00'::blob AS b, 'nan'::double AS f, NULL AS x, true AS t FROM events"
    )
    found = answer(step("types", body), tools(histories.requests(1)))
    assert json.loads(json.dumps(found.rows))[0] == [
        "1970-01-01T00:10:01Z", "1970-01-01", 1.5, 90.0, [1, 2], {"a": 1}, "<1 bytes>", "nan", None, True,
    ]  # fmt: skip


# --- who decides what runs --------------------------------------------------------------------------------

DATABASE = Connection(postgresql=Secret(env="CORE_RO_URL"), auto=True)


@pytest.mark.parametrize(
    ("one", "status", "said"),
    [
        (step("a", "kubectl get pods", kind="sh"), "not_connected", "runs no commands"),
        (step("a", "SELECT 1", connection="core_ro"), "not_connected", "not asked by this release"),
        (step("a", "GET /x", connection="ops"), "not_connected", "`ops` is not in tocsin.yaml: add it under"),
        (step("a", "GET /x", connection="events"), "not_connected", "`events` is not in tocsin.yaml"),
        (step("a", "GET /x", connection="core_ro"), "refused", "core_ro is postgresql"),
        (step("a", "SELECT 1", connection="core"), "refused", "core is http"),
        (step("a", "GET /x", connection="other"), "refused", "not among the runbook's connections"),
        (step("a", "POST /x"), "refused", "POST changes things"),
        (step("a", "DELETE /x", writes=False), "refused", "DELETE changes things"),
        (step("a", "GET /x", run="never"), "skipped", "run=never"),
        (step("a", "GET /x", needs="gone"), "skipped", "needs step gone"),
    ],
)
@pytest.mark.parametrize("phase", ["fire", "manual"])
def test_what_may_never_run_is_not_run(one: Step, status: str, said: str, phase: Phase) -> None:
    seen, answering = recording()
    with serving(answering) as base:
        connections = {name: http_connection(base) for name in ("core", "other")}
        found = answer(one, Tools(over(), connections | {"core_ro": DATABASE}), phase=phase)
    assert (found.status, seen) == (status, [])
    assert said in found.reason


@pytest.mark.parametrize(
    ("fields", "auto", "said"),
    [
        ({"run": "ask"}, True, "waits for a person: the runbook asks first"),
        ({}, False, "waits for a person: connection core has no `auto: true`"),
        ({"section": "Resolution"}, True, "waits for a person: the runbook asks first"),
    ],
)
def test_the_document_can_only_lower_what_the_settings_allow(
    fields: dict[str, Any], auto: bool, said: str
) -> None:
    book = replace(runbook(), investigation=(step("a", "GET /x", **fields),))
    seen, answering = recording()
    with serving(answering) as base:
        by_itself = answers(book, tools(core=base, auto=auto))["a"]
        assert (by_itself.status, by_itself.reason, seen) == ("skipped", said, [])
        assert answers(book, tools(core=base, auto=auto), phase="manual")["a"].status == "ok"


def test_verification_runs_on_resolve_and_a_named_step_when_a_person_names_it() -> None:
    book = runbook(
        step("look", "SELECT 1 AS x FROM events"),
        step("again", "SELECT 2 AS x FROM events", section="Verification"),
    )
    assert list(answers(book, tools())) == ["look"]
    assert list(answers(book, tools(), phase="resolve")) == ["look", "again"]
    assert list(answers(book, tools(), phase="manual", only=["again"])) == ["again"]
    with pytest.raises(TocsinError, match="has no step gone; its steps are: look, again"):
        answers(book, tools(), phase="manual", only=["gone"])


def test_a_step_that_needs_another_waits_for_its_answer() -> None:
    book = runbook(
        step("first", "SELECT broken FROM events"),
        step("second", "SELECT 1 AS x FROM events", needs="first"),
        step("third", "SELECT 1 AS x FROM events"),
    )
    found = answers(book, tools())
    assert [found[name].status for name in ("first", "second", "third")] == ["failed", "skipped", "ok"]
    assert found["second"].reason == "needs step first, which did not answer"


def test_a_dry_run_shows_everything_and_touches_nothing() -> None:
    seen, answering = recording()
    one = Input("integration_id", "int")
    book = runbook(
        step("http", "GET /api/:integration_id"), step("sql", "SELECT 1 AS x FROM events"), inputs=[one]
    )

    def untouched(_as_of_us: int) -> Any:
        raise AssertionError("the events were opened")

    with serving(answering) as base:
        use = Tools(untouched, {"core": http_connection(base)})
        found = answers(book, use, resolve([one], {"integration_id": "7"}, {}, AS_OF), "manual", dry_run=True)
    assert (seen, {a.status for a in found.values()}) == ([], {"skipped"})
    assert (found["http"].rendered, found["http"].target) == ("GET /api/7", base)
    assert found["http"].parameters == {"integration_id": 7}
    assert found["sql"].rendered == "SELECT 1 AS x FROM events"


# --- inputs -----------------------------------------------------------------------------------------------

PROVIDER = Input("provider", "enum", source="labels.provider", values=("google", "oneroster"))
COUNT = Input("n", "int", source="labels.n")
SLUG = Input("tenant", "slug", source="labels.tenant_id")
TEXT = Input("reason", "str", source="labels.reason")
BEGAN = Input("began", "str", source="incident.started_at")


def test_inputs_come_from_the_person_the_source_the_default() -> None:
    labels = {"provider": "google", "n": "7", "tenant_id": "district-9", "reason": "x' OR 1"}
    values = resolve([SINCE, PROVIDER, COUNT, SLUG, TEXT, BEGAN], {"n": "8"}, labels, AS_OF)
    assert values.missing == {}
    assert {**values.known, "since": None} == {
        "since": None, "provider": "google", "n": 8, "tenant": "district-9", "reason": "x' OR 1",
        "began": "1970-01-01T00:20:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "raw", "said"),
    [
        (PROVIDER, "azure", "is not one of google, oneroster"),
        (COUNT, "7; DROP", "is not a whole number"),
        (COUNT, "٧", "is not a whole number"),
        (COUNT, "9" * 30, "is not a whole number"),
        (SLUG, "../etc", "is not a word"),
        (TEXT, "x" * 201, "is longer than 200"),
        (TEXT, "a\x00b", "holds control characters"),
        (TEXT, "a\nb", "holds control characters"),
        (SINCE, "1 hour", "is not a duration"),
    ],
)
def test_a_label_that_is_not_of_its_type_makes_the_step_wait(one: Input, raw: str, said: str) -> None:
    one = Input(one.name, one.type, source="labels.x", values=one.values)
    values = resolve([one], {}, {"x": raw}, AS_OF)
    assert said in values.missing[one.name]
    found = answer(step("a", f"SELECT :{one.name} AS x FROM events"), tools(), values)
    assert found.status == "skipped"
    assert found.reason.startswith(f"waits for a person: input {one.name}")
    with pytest.raises(TocsinError, match="the runbook's inputs are"):
        check_given([one], {one.name: raw, "other": "1"})


def test_an_input_without_a_value_waits_for_a_person() -> None:
    values = resolve([Input("x", "str")], {}, {}, AS_OF)
    found = answer(step("a", "GET /:x"), tools(core="http://127.0.0.1:9"), values)
    assert (found.status, found.reason) == ("skipped", "waits for a person: input x")


# --- O13: payloads ----------------------------------------------------------------------------------------

NASTY = st.one_of(
    st.sampled_from([
        "'; DROP TABLE events; --", "$(id)", "`id`", "|| ls", "-o ProxyCommand=x", "--", "../../etc/passwd",
        "..", ".", "%2e%2e", "%2e%2e%2fadmin", "..%2f..", "..\\..", "a/b", "//evil.example.com",
        "\u202e", "\u2028",
        "http://169.254.169.254/", "@evil.example.com", "?x=1", "#frag", ";jsessionid=1", "a b", "é", "𝕏",
        ":as_of", "$as_of", "::text", "{{7*7}}", "${jndi:ldap://x}", "/*", "*/", "\\", "%",
        "%00", "&a=b", "=",
    ]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60),
    st.text(st.sampled_from("./\\%2eEfF5cC?#&;:@'\"$-`| "), min_size=1, max_size=20),
)  # fmt: skip


@hypothesis_settings(max_examples=500)
@given(NASTY)
def test_O13_a_payload_in_a_label_is_only_ever_a_value(payload: str) -> None:
    sent: list[tuple[str, str]] = []

    def send(method: str, url: str, **_: Any) -> Reply:
        sent.append((method, url))
        return Reply(200, {}, b"", False, 1.0)

    values = resolve([TEXT], {}, {"reason": payload}, AS_OF)
    use = Tools(over(), {"core": http_connection("https://core.example.org/base/")}, request=send)
    book = runbook(
        step("path", "GET /api/:reason/end"), step("query", "GET /api?q=:reason&z=1"), inputs=[TEXT]
    )
    found = answers(book, use, values)
    for method, url in sent:
        parts = urlsplit(url)
        assert (method, parts.scheme, parts.netloc, parts.fragment) == (
            "GET",
            "https",
            "core.example.org",
            "",
        )
        if parts.query:
            assert (parts.path, parts.query.count("&"), parts.query[-4:]) == ("/base/api", 1, "&z=1")
            assert unquote(parts.query[2:-4]) == payload
        else:
            segments = parts.path.split("/")
            assert (segments[:3], segments[4:]) == (["", "base", "api"], ["end"])
            assert unquote(segments[3]) == payload
            assert not {"", ".", ".."} & {segments[3], unquote(unquote(segments[3]))}
            assert "/" not in unquote(unquote(segments[3]))
    if values.known:
        assert found["query"].status == "ok"
        assert found["path"].status in ("ok", "refused")


ECHO = runbook(step("echo", "SELECT count(*) AS n FROM events WHERE message = :reason"), inputs=[TEXT])


@hypothesis_settings(max_examples=100)
@given(NASTY)
def test_O13_the_statement_is_the_same_for_every_payload(payload: str) -> None:
    statements: list[str] = []
    inner = over()

    def watching(as_of_us: int) -> Any:
        return _Watching(inner(as_of_us), statements)

    found = answers(ECHO, Tools(watching), resolve([TEXT], {}, {"reason": payload}, AS_OF))["echo"]
    assert found.status == ("ok" if payload.isprintable() else "skipped")
    assert set(statements) <= {
        "SELECT * FROM (SELECT count_star() AS n FROM events WHERE (message = $reason)) LIMIT 51"
    }
    assert len(statements) == (found.status == "ok")


class _Watching:
    """A connection that notes the statements which it is given."""

    def __init__(self, inner: Any, statements: list[str]) -> None:
        self._inner, self._statements = inner, statements

    def __enter__(self) -> _Watching:
        self._connection = self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)

    def execute(self, statement: str, values: Mapping[str, object]) -> Any:
        self._statements.append(statement)
        return self._connection.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


# --- steps over HTTP --------------------------------------------------------------------------------------


def test_an_http_step_asks_the_connections_host_with_the_documents_path() -> None:
    seen: list[tuple[str, str | None]] = []

    def answering(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.requestline, handler.headers["Origin"]))
        reply(200, b'{"status":"ok","checks":[{"db":true}]}', Content_Type="application/json")(handler)

    with serving(answering) as base:
        body = "OPTIONS /api/v1/health?deep=1\nOrigin: https://web.example.org\n"
        found = answer(step("health", body), tools(core=base))
    assert seen == [("OPTIONS /api/v1/health?deep=1 HTTP/1.1", "https://web.example.org")]
    assert found.http is not None
    assert (found.status, found.http.status) == ("ok", 200)
    assert found.http.json == {"status": "ok", "checks": [{"db": True}]}
    assert found.rendered == "OPTIONS /api/v1/health?deep=1\nOrigin: https://web.example.org"


@pytest.mark.parametrize(
    "body",
    [
        "GET //evil.example.com/", "GET http://evil.example.com/", "GET x", "GET", "", "get /x",
        "GET /a/../b", "GET /%2e%2e/b", "GET /a\\b", "GET /x#y", "GET /x HTTP/1.1", "CONNECT /x",
        "GET /x\nno header", "GET /x\nHost: evil.example.com", "GET /x\nA: b\x00",
    ],
)  # fmt: skip
def test_I15_a_block_that_is_not_a_plain_request_is_refused(body: str) -> None:
    seen, answering = recording()
    with serving(answering) as base:
        found = answer(step("bad", body, kind="http", connection="core"), tools(core=base))
    assert (found.status in ("refused", "failed"), seen) == (True, [])


def test_I15_a_connection_whose_name_is_private_is_refused_and_a_redirect_is_shown() -> None:
    seen, answering = recording(302, b"", Location="http://169.254.169.254/latest?token=x")
    with serving(answering) as base:
        shown = answer(step("a", "GET /x"), tools(core=base))
        named = base.replace("127.0.0.1", "0x7f.1")
        refused = answer(step("a", "GET /x"), tools(core=named))
    assert shown.http is not None
    assert (shown.http.status, len(seen)) == (302, 1)
    assert refused.status == "refused"
    assert "private_hosts" in refused.reason


def test_a_server_that_does_not_answer_fails_its_step_only() -> None:
    book = runbook(step("down", "GET /x"), step("events", "SELECT 1 AS x FROM events"))
    with serving(reply()) as base:
        pass
    found = answers(book, tools(core=base))
    assert (found["down"].status, found["events"].status) == ("failed", "ok")
    assert "Connection refused" in found["down"].reason


def test_a_long_answer_is_cut_and_marked() -> None:
    with serving(reply(200, b"word " * 10_000)) as base:
        found = answer(step("long", "GET /x", max_bytes=1000), tools(core=base))
    assert found.http is not None
    assert (found.truncated, 900 <= len(found.http.body) <= 1000) == (True, True)


# --- bounds of a run --------------------------------------------------------------------------------------


def test_O14_a_run_ends_with_its_budget() -> None:
    hold = threading.Event()
    with serving(lambda _handler: hold.wait(10) and None) as base:
        book = runbook(
            *(step(f"slow{i}", "GET /x", timeout_s=0.2) for i in range(3)),
            step("late", "SELECT 1 AS x FROM events"),
            budget_s=0.3,
        )
        started = time.monotonic()
        found = answers(book, tools(core=base))
        assert time.monotonic() - started < 20
        hold.set()
    statuses = [answer.status for answer in found.values()]
    assert statuses == ["failed", "failed", "skipped", "skipped"]
    assert found["late"].reason == "the runbook's budget of 0.3 s is used up"


def test_a_connection_that_failed_three_times_is_left_alone_for_a_quarter_of_an_hour() -> None:
    with serving(reply()) as base:
        pass
    use, book, now = tools(core=base), runbook(step("a", "GET /x")), [AS_OF]

    def asked() -> Answer:
        return execute(book, NOTHING, use, lambda: now[0], as_of_us=AS_OF).answers["a"]

    assert [asked().status for _ in range(FAILURES)] == ["failed"] * FAILURES
    skipped = asked()
    assert skipped.status == "skipped"
    assert (
        skipped.reason
        == "connection core failed 3 times in a row; it is asked again after 1970-01-01T00:35:00Z"
    )
    now[0] += PAUSE_US
    assert (asked().status, asked().status) == ("failed", "skipped")


def test_an_answer_forgives_failures() -> None:
    use = tools()
    for answered in (False, False, True, False, False):
        use.breaker.record("core", answered, AS_OF)
    assert use.breaker.reason("core", AS_OF) == ""
    use.breaker.record("core", False, AS_OF)
    assert use.breaker.reason("core", AS_OF)


# --- redaction --------------------------------------------------------------------------------------------

CANARIES = (
    "Emma Sturdivant", "emma.sturdivant@school.example", "5551234567", "sk-live-abcdefghijklmnop",
    "812345678", "s3ss10n", "203.0.113.77", "Bearer abc.def.ghi", "allergic to nuts",
)  # fmt: skip


def test_no_canary_of_a_server_reaches_the_evidence() -> None:
    body = {
        "status": "degraded",
        "student": {"name": CANARIES[0], "email": CANARIES[1], "id": 812345678},
        "students": [{"sis_id": CANARIES[4]}, {CANARIES[1]: 1}],
        "message": f"user {CANARIES[1]} from {CANARIES[6]} called {CANARIES[2]}",
        "api_key": CANARIES[3],
        "note": CANARIES[3],
        "nested": json.dumps({"first_name": CANARIES[0], "answers": [CANARIES[8]]}),
        "comments": [CANARIES[8]],
        "tokens": 812,
        "count": 3,
    }
    headers = {
        "Set_Cookie": f"_session={CANARIES[5]}; Path=/; Secure; HttpOnly; SameSite=Lax; x={CANARIES[5]}",
        "Authorization": CANARIES[7],
        "X_Api_Token": CANARIES[3],
        "X_Forwarded_For": CANARIES[6],
        "Location": f"https://accounts.example.com/auth?login_hint={CANARIES[1]}",
        "X_Request_Id": "6f1c0a34",
    }
    with serving(reply(200, json.dumps(body).encode(), **headers)) as base:
        found = answer(step("a", "GET /x"), tools(core=base))
    stored = json.dumps(record(found)) + json.dumps(found.http and found.http.json)
    assert [canary for canary in CANARIES if canary in stored] == []
    assert found.http is not None
    assert found.redactions >= 12
    assert found.http.json["status"] == "degraded"
    assert (found.http.json["tokens"], found.http.json["count"]) == (812, 3)
    assert found.http.headers["set-cookie"] == "_session=<dropped>; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert found.http.headers["location"] == "https://accounts.example.com/auth"
    assert found.http.headers["x-request-id"] == "6f1c0a34"


def test_no_canary_of_a_page_reaches_the_evidence() -> None:
    page = f"<p>Dear {CANARIES[1]}, call {CANARIES[2]} from {CANARIES[6]}</p> {CANARIES[7]} {CANARIES[3]}"
    with serving(reply(200, page.encode() + b"\x00")) as base:
        found = answer(step("a", "GET /x"), tools(core=base))
        binary = answer(step("a", "GET /x", max_bytes=50), tools(core=base))
    assert [canary for canary in CANARIES if canary in json.dumps(record(found))] == []
    assert binary.truncated
    with serving(reply(200, b"\x89PNG\xff\xfe" * 9)) as base:
        image = answer(step("a", "GET /x"), tools(core=base))
    assert image.http is not None
    assert image.http.body == "<54 bytes that are not text>"


def test_no_canary_of_a_query_reaches_the_evidence() -> None:
    body = (
        f"SELECT '{CANARIES[1]}' AS contact, '{CANARIES[0]}' AS student_name, '812345678' AS student_id, "
        f"'called {CANARIES[2]}' AS note, name, user_id, count(*) AS answers, "
        f"{{'email': '{CANARIES[1]}'}} AS s FROM events GROUP BY ALL"
    )
    use = tools(histories.requests(2, user_id="u_0123456789abcdef"))
    found = answer(step("a", body), use)
    shown = record(found)
    shown.pop("rendered")
    assert [canary for canary in CANARIES if canary in json.dumps(shown)] == []
    assert found.rows[0][4:7] == ("api.request", "u_0123456789abcdef", 2)
    assert found.redactions == 5


def test_strict_cuts_cells_at_200_characters() -> None:
    use = tools(histories.at([601], "log", message="word " * 100))
    body = "SELECT message FROM events"
    strict, standard = (answer(step("a", body, redact=level), use) for level in ("strict", "standard"))
    assert (len(strict.rows[0][0]) <= 200, strict.truncated) == (True, True)
    assert (standard.rows[0][0], standard.truncated) == ("word " * 100, False)


def test_what_a_person_typed_is_redacted_where_it_is_shown_and_sent_as_it_is() -> None:
    seen, answering = recording()
    values = resolve([TEXT], {"reason": CANARIES[1]}, {}, AS_OF)
    with serving(answering) as base:
        found = answer(step("a", "GET /find?q=:reason"), tools(core=base), values)
    assert seen == ["GET /find?q=emma.sturdivant%40school.example HTTP/1.1"]
    assert (found.rendered, found.parameters) == ("GET /find?q=<email>", {"reason": "<email>"})


# --- the report -------------------------------------------------------------------------------------------


def test_the_hash_is_over_what_is_stored() -> None:
    with serving(reply(200, b'{"a": 1}')) as base:
        found = answer(step("a", "GET /x"), tools(core=base))
    stored = json.loads(json.dumps(record(found)))
    assert canonical_sha256(stored) == found.sha256
    stored["http"]["body"] = '{"a": 2}'
    assert canonical_sha256(stored) != found.sha256


DOCUMENT = """---
runbook: 1
id: sync-failure
title: Sync failure
service: k12-core
owner: platform-oncall
alerts: [SyncFailures]
last_reviewed: 2026-02-16
review_every: 90d
connections: [events]
inputs:
  since: {type: duration, default: 1h}
escalation: Page the team lead
---
# Sync failure

## Symptoms
Rosters are out of date.

## Impact
Old class lists.

## Investigation

### 1. Errors by text

```sql id=errors on=events rows=20
SELECT error, count(*) AS n FROM events
WHERE name = 'sync.run' AND status = 'error' AND ts > :as_of - :since::interval GROUP BY error ORDER BY n DESC
```

**Findings**

- If `errors.any(error ~ "invalid_grant")`: **likely** [Token revoked](#token-revoked). Sign in again.
- If `errors.rows = 0`: **note** nothing failed.

## Diagnosis

### Token revoked
Then: [sign in again](#sign-in-again).

## Resolution

### Sign in again
Ask the teacher.

## Verification
No new errors.

## Escalation
Page the team lead.

## References
None.
"""


def test_a_document_leads_from_events_to_a_cause() -> None:
    book, faults = parse(DOCUMENT, "SYNC_FAILURE.md")
    assert (faults, book is not None) == ([], True)
    assert book is not None
    use = tools(histories.at([610, 620], "sync.run", status="error", error="invalid_grant"))
    values = resolve(book.inputs, {}, {}, AS_OF)
    report = execute(book, values, use, CLOCK, as_of_us=AS_OF)
    assert [(cause.title, cause.strength) for cause in report.causes] == [("Token revoked", "likely")]
    printed = as_json(book, report)
    assert printed["causes"][0]["cause"] == "token-revoked"
    (printed_step,) = printed["steps"]
    assert (printed_step["id"], printed_step["kind"], printed_step["status"]) == ("errors", "sql", "ok")
    assert (printed_step["rows"], printed_step["ms"] > 0) == ([["invalid_grant", 2]], True)
    assert [f["verdict"] for f in printed_step["findings"]] == [True, False]
