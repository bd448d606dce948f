"""The API of a whole installation, asked without a socket."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.tocsin_server.loading import NOW, log, request
from tocsin_server.app import Installation, opened
from tocsin_server.client import Client
from tocsin_server.config import Settings
from tocsin_server.errors import TocsinError
from tocsin_server.web import create_app
from tocsin_server.web.api import MAX_BYTES_IN_WORK
from tocsin_server.web.asgi import Call, call_app


class Asking:
    """An installation at a fixed time, and two ways to ask it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.app = create_app(installation.services())
        self.call: Call = call_app(self.app, installation.operator_token)
        self.client = Client(self.call)

    def post(self, body: bytes, query: str = "", **headers: str) -> tuple[int, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        status, answer = self.call("POST", f"/api/v1/ingest{query}", sent, body)
        return status, json.loads(answer)


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    with opened(Settings(), tmp_path / "data", lambda: NOW) as installation:
        yield Asking(installation)


def test_I5_the_answer_to_a_batch_counts_its_lines(asking: Asking) -> None:
    status, answer = asking.post(log("a") + b"{oops\n" + request())
    assert status == 200
    assert answer == {
        "received": 3,
        "stored": 2,
        "duplicates": 0,
        "rejected": [{"line": 2, "reason": "malformed"}],
    }


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(log("a") * 2), {"Content_Encoding": "gzip"}),
        (b"[" + log("a") + b"," + log("b") + b"]", {"Content_Type": "application/json"}),
        (log("a") + log("b").rstrip(b"\n"), {}),
    ],
)
def test_bodies_are_lines_an_array_or_compressed(
    asking: Asking, body: bytes, headers: dict[str, str]
) -> None:
    assert asking.post(body, **headers)[1]["stored"] == 2


def test_what_lines_lack_is_given_by_the_query(asking: Asking) -> None:
    asking.post(b"plain text\n", "?source=pump&service=core&environment=staging")
    rows = asking.client.post("/api/v1/query", {"sql": "SELECT source, service, environment FROM events"})
    assert rows["rows"] == [["pump", "core", "staging"]]


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"[{", {}, 400, "begins as a JSON array"),
        (b"x", {"Content_Encoding": "br"}, 415, "is not known"),
        (b"no gzip", {"Content_Encoding": "gzip"}, 400, "not whole gzip data"),
        (b"x" * (11 << 20), {}, 413, "larger than 10 MiB"),
    ],
)
def test_bad_bodies_get_a_clear_error(
    asking: Asking, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answered, answer = asking.post(body, **headers)
    assert (answered, said in answer["error"]) == (status, True), answer


def test_L1_more_than_fits_is_told_to_come_again(asking: Asking) -> None:
    work = asking.app.state.work
    assert work.take(MAX_BYTES_IN_WORK)
    status, answer = asking.post(log("a"))
    assert (status, "send this batch again" in answer["error"]) == (429, True)
    work.give_back(MAX_BYTES_IN_WORK)
    assert asking.post(log("a"))[0] == 200


def test_D6_a_full_disk_is_503_and_says_when_to_try_again(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tocsin_server.spool.os.write", full)
        status, answer = asking.post(log("a"))
        assert status == 503
        assert "No space left" in answer["error"]
        assert asking.client.get("/api/v1/status")["healthy"] is False
    assert asking.post(log("a"))[0] == 200
    assert asking.client.get("/api/v1/status")["healthy"] is True


def test_every_error_is_one_sentence(asking: Asking) -> None:
    for method, path, body in (
        ("POST", "/api/v1/query", {"sql": "DROP TABLE events"}),
        ("POST", "/api/v1/query", {"sql": 5, "unknown": 1}),
        ("GET", "/api/v1/alerts/Nothing/why", None),
        ("GET", "/api/v1/alerts/HighErrorRate/why?at=yesterday", None),
        ("GET", "/api/v1/incidents/7", None),
        ("POST", "/api/v1/incidents/7/ack", {}),
        ("POST", "/api/v1/runbooks/none/run", {}),
        ("POST", "/api/v1/runbooks/sync-failure/run", {"inputs": {"nothing": "1"}}),
        ("POST", "/api/v1/channels/none/test", {}),
        ("POST", "/api/v1/silences", {"matchers": ["x"], "ends_at": "now", "comment": ""}),
        ("POST", "/api/v1/silences/3/expire", {}),
        ("POST", "/api/v1/drills/Nothing", {}),
        ("GET", "/api/v1/nothing", None),
    ):
        sent = b"" if body is None else json.dumps(body).encode()
        status, answer = asking.call(method, path, {"Content-Type": "application/json"}, sent)
        assert 400 <= status < 500, (path, status, answer)
        told = json.loads(answer)["error"]
        assert told
        assert "\n" not in told
        assert "Traceback" not in told


def test_files_are_loaded_for_the_operator_only(asking: Asking, tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(log("a") * 2)
    asked = json.dumps({"paths": [str(tmp_path / "app.log")]}).encode()
    app = create_app(asking.installation.services())
    stranger = call_app(app, "guessed")
    status, answer = stranger("POST", "/api/v1/files", {"Content-Type": "application/json"}, asked)
    assert status in (401, 403), answer
    assert asking.client.post("/api/v1/files", json.loads(asked))["logs"] == 2
    with pytest.raises(TocsinError, match="cannot read"):
        asking.client.post("/api/v1/files", {"paths": [str(tmp_path / "none.log")]})


def test_a_silence_is_added_shown_and_ended(asking: Asking) -> None:
    body = {
        "matchers": ["alertname=HighErrorRate"],
        "ends_at": "2026-11-24",
        "comment": "deploy",
        "author": "ada",
    }
    added = asking.client.post("/api/v1/silences", body)
    assert added["state"] == "active"
    assert [one["id"] for one in asking.client.get("/api/v1/silences")] == [added["id"]]
    assert asking.client.post(f"/api/v1/silences/{added['id']}/expire", {})["state"] == "expired"
    assert asking.client.get("/api/v1/silences") == []


def test_a_drill_walks_through_without_touching_events(asking: Asking) -> None:
    report = asking.client.post("/api/v1/drills/AIGatewayDown", {})
    assert report["fired_at"], report
    assert report["incident"], report
    assert report["cause"], report
    assert asking.client.post("/api/v1/query", {"sql": "SELECT count(*) FROM events"})["rows"] == [[0]]
    assert asking.client.get("/api/v1/incidents", all="true")[0]["drill"]


def test_a_runbook_runs_on_request(asking: Asking) -> None:
    assert {one["runbook"] for one in asking.client.get("/api/v1/runbooks")} >= {"sync-failure"}
    asking.post(request())
    report = asking.client.post("/api/v1/runbooks/deployment-rollback/run", {})
    assert any(step["status"] == "ok" for step in report["steps"])
    dry = asking.client.post("/api/v1/runbooks/deployment-rollback/run", {"dry_run": True})
    assert dry["causes"] == []


def test_metrics_are_prometheus_text(asking: Asking) -> None:
    text = asking.client.text("GET", "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["tocsin_healthy"].samples[0].value == 1
    assert {s.labels["step"] for s in families["tocsin_step_ok"].samples} >= {"evaluate", "notify"}
    assert asking.call("GET", "/readyz", {}, b"")[0] == 200


def test_the_api_is_described(asking: Asking) -> None:
    described = asking.client.get("/api/v1/openapi.json")
    assert "/api/v1/ingest" in described["paths"]
