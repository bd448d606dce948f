"""The gate: who may ask, from where, under which name; and the headers of every answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from website import NOW_US, OPERATOR, Site, running

from tocsin_server.config import Listen
from tocsin_server.web.pages import PAGES
from tocsin_server.web.security import CONTENT_SECURITY_POLICY, host_allowed, safe_next
from tocsin_server.web.sessions import COOKIE, IDLE_US, LIFETIME_US, Sessions

TOKEN = "a-token-that-only-the-team-knows"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a token."""
    with running(tmp_path_factory.mktemp("closed"), token=TOKEN, evaluate=False) as site:
        yield site


PATHS = [
    *(page.path.replace("{name}", "HighErrorRate").replace("{id}", "deployment-rollback") for page in PAGES),
    *(page.twin.replace("{name}", "HighErrorRate").replace("{id}", "deployment-rollback") for page in PAGES),
    "/explore/export.csv",
    "/explore/export.json",
    "/incidents/1.md",
    "/incidents/1.html",
    "/static/tocsin.js",
    "/static/vendor/htmx.min.js",
    "/api/v1/status",
    "/api/v1/alerts",
    "/api/v1/sources",
    "/metrics",
    "/nowhere",
    "/alerts/{name}",
    "/alerts/",
    "//alerts",
    "/%2fhealthz",
    "/healthz/",
    "/login/",
    "/static/../healthz",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("credential", ["", "Bearer wrong", "Bearer ", f"Basic {TOKEN}", "Bearer \u00e9"])
def test_O3_every_route_is_closed_to_strangers(closed: Site, path: str, credential: str) -> None:
    for method in ("GET", "OPTIONS"):
        status, headers, body = closed.ask(
            method, path, headers={"Authorization": credential.encode().decode("latin-1")}
        )
        assert status == 401, f"{method} {path}"
        assert headers["www-authenticate"] == "Bearer"
        assert "unauthorized" in body


@pytest.mark.parametrize(
    "path", ["/incidents/1/acknowledge", "/deliveries/test", "/api/v1/ingest", "/logout"]
)
def test_O3_strangers_change_nothing(closed: Site, path: str) -> None:
    assert closed.post(path)[0] == 401


def test_O3_the_tokens_open_and_unknown_routes_are_404_then(closed: Site) -> None:
    for token in (TOKEN, OPERATOR):
        assert closed.get("/alerts", Authorization=f"Bearer {token}")[0] == 200
        assert closed.get("/nowhere", Authorization=f"Bearer {token}")[0] == 404
    assert closed.get("/healthz")[0] == 200


def test_a_browser_is_led_to_the_login_and_back(closed: Site) -> None:
    status, headers, _ = closed.get("/alerts?state=ok", Accept="text/html")
    assert (status, headers["location"]) == (303, "/login?next=/alerts%3Fstate%3Dok")
    form = urlencode({"token": TOKEN, "name": "Ana", "next": "/alerts?state=ok"})
    status, headers, _ = closed.post("/login", form)
    assert (status, headers["location"]) == (303, "/alerts?state=ok")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    secret = cookie.partition(";")[0]
    assert "log out Ana" in closed.get("/alerts", Accept="text/html", Cookie=secret)[2]
    assert closed.post("/logout", Cookie=secret)[0] == 303
    assert closed.get("/alerts", Cookie=secret)[0] == 401


def test_O6_a_wrong_token_opens_nothing(closed: Site) -> None:
    status, headers, body = closed.post("/login", urlencode({"token": "wrong", "name": "Ana"}))
    assert status == 401
    assert "set-cookie" not in headers
    assert "not the one" in body
    assert closed.get("/alerts", Cookie=f"{COOKIE}=forged")[0] == 401


def test_O7_sessions_end_by_idleness_by_age_and_by_logout() -> None:
    now = [NOW_US]
    sessions = Sessions(lambda: now[0])
    idle, old, left = (sessions.open(name) for name in ("idle", "old", "left"))
    sessions.close(left)
    assert sessions.who(left) is None
    for _ in range(LIFETIME_US // IDLE_US * 2 - 1):
        now[0] += IDLE_US // 2
        assert sessions.who(old) == "old"
    now[0] += IDLE_US // 2
    assert sessions.who(old) is None
    assert sessions.who(idle) is None


@pytest.mark.parametrize(
    ("listen", "host", "allowed"),
    [
        ({}, "127.0.0.1:8642", True),
        ({}, "localhost:9000", True),
        ({}, "[::1]:8642", True),
        ({}, "LOCALHOST", True),
        ({}, "evil.example", False),
        ({}, "127.0.0.1.evil.example", False),
        ({}, "localhost@evil.example", False),
        ({}, "10.0.0.5", False),
        ({}, "", False),
        ({}, "[::1", False),
        ({"url": "https://tocsin.example.org/x"}, "tocsin.example.org", True),
        ({"url": "https://tocsin.example.org"}, "evil.example", False),
        ({"host": "10.0.0.5"}, "10.0.0.5:8642", True),
        ({"host": "0.0.0.0"}, "10.0.0.5", True),
        ({"host": "0.0.0.0"}, "evil.example", False),
    ],
)
def test_O9_only_its_own_names_are_answered(listen: dict[str, str], host: str, allowed: bool) -> None:
    assert host_allowed(host, Listen.model_validate(listen)) is allowed


def test_O9_a_foreign_name_is_misdirected(outage: Site) -> None:
    status, headers, _ = outage.get("/", Host="evil.example")
    assert status == 421
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "", "Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "", "Origin": "null"},
    {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1"},
    {"Sec-Fetch-Site": ""},
]
CHANGES = [
    "/incidents/1/acknowledge",
    "/incidents/1/note",
    "/incidents/1/resolve",
    "/deliveries/test",
    "/runbooks/deployment-rollback/run",
]


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_O8_forms_of_other_sites_are_refused(outage: Site, path: str, headers: dict[str, str]) -> None:
    status, _, body = outage.post(path, "text=x&channel=oncall", **headers)
    assert status == 403
    assert "does not come from this site" in body
    assert outage.json("/incidents/1.json")["incident"]["status"] == "open"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain", "Sec-Fetch-Site": ""}, 403),
        ({"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": ""}, 403),
        ({"Content-Type": "application/x-ndjson", "Sec-Fetch-Site": "cross-site"}, 403),
        (
            {"Content-Type": "application/x-ndjson", "Sec-Fetch-Site": "", "Origin": "http://evil.example"},
            403,
        ),
        ({"Content-Type": "application/x-ndjson", "Sec-Fetch-Site": ""}, 200),
        ({"Content-Type": "text/plain", "Sec-Fetch-Site": "", "X-Tocsin-Request": "1"}, 200),
        ({"Content-Type": "text/plain", "Sec-Fetch-Site": "", "Authorization": f"Bearer {OPERATOR}"}, 200),
    ],
    ids=str,
)
def test_O8_the_api_takes_what_no_foreign_form_can_send(
    outage: Site, headers: dict[str, str], status: int
) -> None:
    assert outage.post("/api/v1/ingest", '{"message":"x"}\n', **headers)[0] == status


@pytest.mark.parametrize("path", CHANGES)
def test_O8_reading_changes_nothing(outage: Site, path: str) -> None:
    assert outage.get(path)[0] in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/alerts.json",
        "/explore/export.csv",
        "/nowhere",
        "/login",
        "/healthz",
        "/explore?from=x",
        "/api/v1/status",
        "/api/v1/nowhere",
    ],
)
def test_O8_every_answer_has_its_headers(outage: Site, path: str) -> None:
    _, headers, _ = outage.get(path, Accept="text/html", Origin="http://evil.example")
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:x",
        "",
        "/a\r\nSet-Cookie: x",
        "\\\\evil",
    ],
)
def test_O8_a_login_leads_nowhere_else(path: str) -> None:
    assert safe_next(path) == "/"


@pytest.mark.parametrize(
    "name",
    [
        "../app.py",
        "%2e%2e/app.py",
        "%252e%252e/app.py",
        "..%2fapp.py",
        "/etc/passwd",
        "vendor/../../app.py",
        "tocsin.css%00",
        "vendor/lock.sha256",
        "x" * 4096,
    ],
)
def test_I18_static_files_are_a_table_of_names(outage: Site, name: str) -> None:
    assert outage.get(f"/static/{name}")[0] == 404


@pytest.mark.parametrize(
    "name", ["../x", "%2e%2e%2fx", "..%2f..%2fetc%2fpasswd", "a%00b", "A" * 4096, "1e9", "-1", "٣"]
)
def test_I18_ids_are_looked_up_and_never_paths(outage: Site, name: str) -> None:
    for folder in ("runbooks", "incidents", "alerts"):
        assert outage.get(f"/{folder}/{quote(name, safe='%')}")[0] == 404


def test_a_form_is_bounded(outage: Site, tmp_path: Path) -> None:
    assert outage.post("/incidents/1/note", "text=" + "x" * 70_000)[0] == 400
    assert outage.post("/incidents/1/note", "&".join("a=b" for _ in range(99)))[0] == 400
