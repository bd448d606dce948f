"""Every page over a whole installation, after a drill went through all of it: real rows, not made-up ones;
with its state in SQLite and in PostgreSQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.tocsin_server.loading import log
from tests.tocsin_server.loading import request as answered
from tocsin_server.app import opened
from tocsin_server.clock import iso, real_clock
from tocsin_server.config import Settings
from tocsin_server.notify.receivers import WebhookReceiver
from tocsin_server.web import create_app
from tocsin_server.web.asgi import Call, call_app
from tocsin_server.web.pages import PAGES


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def call(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    state = {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        server.psql("CREATE DATABASE installation")
        secret = tmp_path_factory.mktemp("secret") / "url"
        secret.write_text(server.get_uri(database="installation"))
        state = {"state": {"postgresql": {"file": str(secret)}}}
    with WebhookReceiver() as receiver:
        notify = {"channels": {"chat": {"webhook": {"url": receiver.url}}}, "routes": [{"to": ["chat"]}]}
        settings = Settings.model_validate({"notify": notify, **state})
        with opened(settings, tmp_path_factory.mktemp("up") / "data", real_clock) as installation:
            services = installation.services()
            now = iso(real_clock())
            lines = (log("a line", now) + answered(500, now)) * 30 + b"{oops\n"
            services.ingest(lines, source="http", service=None, environment=None, key=None)
            report = services.drill("AIGatewayDown")
            assert report["ok"], report
            assert report["notified"] == ["chat"]
            yield call_app(create_app(services), installation.operator_token)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_page_and_its_twin_answer(call: Call, page: object) -> None:
    for path in (page.path, page.twin):  # type: ignore[attr-defined]  # a Page
        url = path.replace("{name}", "AIGatewayDown").replace("/runbooks/{id}", "/runbooks/ai-gateway-errors")
        status, body = call("GET", url.replace("{id}", "1"), {"Accept": "text/html"}, b"")
        assert status == 200, body[-2000:]


def test_the_delivery_is_in_the_ledger(call: Call) -> None:
    page = call("GET", "/deliveries", {"Accept": "text/html"}, b"")[1].decode()
    assert "accepted" in page
    assert "DRILL" in page
    assert json.loads(call("GET", "/api/v1/deliveries", {}, b"")[1])[0]["attempts"]


@pytest.mark.parametrize("path", ["/incidents/1.md", "/incidents/1.html"])
def test_the_incident_is_exported(call: Call, path: str) -> None:
    status, body = call("GET", path, {}, b"")
    assert status == 200
    assert b"AI Gateway Down" in body
    assert b"DRILL" in body.upper()
