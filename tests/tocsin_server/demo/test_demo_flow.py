"""The demo as a whole: its folder, the world around the server, and what the flow makes of each outage."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console, RenderableType
from sqlalchemy import select

from tocsin_server import incident
from tocsin_server.clock import SECOND_US, frozen_clock, iso, real_clock
from tocsin_server.config import load_settings
from tocsin_server.demo import HISTORY_US, OUTAGES, Live, Prepared, run
from tocsin_server.demo.folder import prepare
from tocsin_server.demo.morning import MINUTE_US, Morning
from tocsin_server.demo.outages import BEGAN_BEFORE_US
from tocsin_server.demo.upstream import CONNECTIONS, Upstream
from tocsin_server.errors import TocsinError
from tocsin_server.investigate import Investigator
from tocsin_server.live import Evaluator
from tocsin_server.load import Options
from tocsin_server.resources import alert_rules, runbooks
from tocsin_server.rules import load_catalogue
from tocsin_server.runbook.load import load_runbooks
from tocsin_server.runbook.run import Tools
from tocsin_server.sources import load_file
from tocsin_server.sql.run import lock
from tocsin_server.state import State
from tocsin_server.state.tables import Incident, IncidentAlert, RunbookRun
from tocsin_server.store import Store
from tocsin_server.why import explain

NOW_US = 1_795_423_987 * SECOND_US


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.01)


def prepared(folder: Path, outage: str, upstream_url: str = "http://127.0.0.1:1") -> Prepared:
    morning = Morning(1, OUTAGES[outage], NOW_US - BEGAN_BEFORE_US)
    receiver = "http://127.0.0.1:2/alerts"
    return prepare(folder, NOW_US, morning, upstream_url, receiver, frozen_clock(NOW_US))


# --- what the flow makes of it --------------------------------------------------------------------------

CAUSES = {
    "deploy": ("deployment-rollback", "deploy-regression"),
    "sync": ("sync-failure", "google-token-revoked"),
    "auth": ("auth-failures", "one-districts-identity-provider"),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_alert_incident_evidence_and_the_right_cause(tmp_path: Path, outage: str) -> None:
    with Upstream(outage) as upstream:
        demo = prepared(tmp_path / "demo", outage, upstream.url)
        settings = load_settings(demo.settings)
        store, state = Store.open(demo.data), State.in_folder(demo.data)
        catalogue = load_catalogue([alert_rules()])
        books, faults = load_runbooks(runbooks())
        assert not faults

        @contextmanager
        def connect(since_us: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
            with store.connect(since_us=since_us) as connection:
                yield connection

        @contextmanager
        def locked(_as_of_us: int) -> Iterator[duckdb.DuckDBPyConnection]:
            with store.connect() as connection:
                lock(connection, [str(store.events.resolve())], 512 << 20, threads=1)
                yield connection

        started = demo.until_us - HISTORY_US
        Evaluator(state, lambda: catalogue, connect, settings.expect, started).step(NOW_US)
        incident.step(state, catalogue, settings.notify.routes, NOW_US)
        tools = Tools(locked, settings.connections)
        assert Investigator(state, lambda: books, tools, frozen_clock(NOW_US)).step(NOW_US) > 0

        with state.reading() as session, connect() as connection:
            (opened,) = session.scalars(select(Incident))
            (fired,) = session.scalars(select(IncidentAlert))
            ranked = {one.runbook: one.causes for one in session.scalars(select(RunbookRun))}
            told = explain(connection, session, catalogue, fired.alert, NOW_US)["instances"][0]
            runbook, cause = CAUSES[outage]
            assert fired.alert == OUTAGES[outage].alert
            assert (ranked[runbook][0]["cause"], ranked[runbook][0]["strength"]) == (cause, "likely")
            assert [c["cause"] for causes in ranked.values() for c in causes] == [cause]
            assert (told["state"], told["incident"]) == ("firing", opened.id)
            assert told["firing_since"] == iso(fired.fired_at)
        state.close()
        store.close()


# --- the folder -----------------------------------------------------------------------------------------


def test_the_folder_holds_the_last_half_hour_and_settings_that_follow_it(tmp_path: Path) -> None:
    demo = prepared(tmp_path / "demo", "deploy")
    settings = load_settings(demo.settings)
    assert settings.sources[0].file == demo.log
    assert set(settings.connections) == set(CONNECTIONS)
    assert all(connection.auto for connection in settings.connections.values())
    assert {route.severity for route in settings.notify.routes} == {"critical", "warning"}
    store = Store.open(demo.data)
    row = store.connect().execute("SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM events").fetchone()
    store.close()
    assert row is not None
    assert NOW_US - HISTORY_US <= row[0] < NOW_US - HISTORY_US + MINUTE_US
    assert NOW_US - MINUTE_US < row[1] <= NOW_US
    assert demo.books.lines == demo.log.read_bytes().count(b"\n")


def test_what_is_written_later_continues_the_load(tmp_path: Path) -> None:
    demo = prepared(tmp_path / "demo", "deploy")
    morning = Morning(1, OUTAGES["deploy"], NOW_US - BEGAN_BEFORE_US)
    later = [line for _, line in morning.lines(NOW_US, NOW_US + MINUTE_US)]
    with demo.log.open("ab") as log:
        log.writelines(line + b"\n" for line in later)
    store = Store.open(demo.data)
    with store.writing():
        books = load_file(store, demo.log, frozen_clock(NOW_US + MINUTE_US), Options())
    store.close()
    assert (books.lines, books.duplicates, books.rejected) == (len(later), 0, 0)


def test_an_earlier_demo_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = prepared(folder, "deploy").log.read_bytes()
    assert prepared(folder, "deploy").log.read_bytes() == first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(TocsinError, match="holds something else than a demo"):
        prepared(tmp_path / "mine", "deploy")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_demo_that_runs_is_left_alone(tmp_path: Path) -> None:
    demo = prepared(tmp_path / "demo", "deploy")
    store = Store.open(demo.data)
    with store.writing(), pytest.raises(TocsinError):
        prepared(tmp_path / "demo", "deploy")
    store.close()
    assert demo.log.exists()


# --- the world around the server ------------------------------------------------------------------------


def get(url: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def test_the_platform_is_well_but_for_the_outage() -> None:
    with Upstream("sync") as upstream:
        assert json.loads(get(upstream.url, "/v1/health")[2])["status"] == "ok"
        status, headers, _ = get(upstream.url, "/auth/google_oauth2")
        assert (status, headers["location"][:28]) == (302, "https://accounts.google.com/")
        assert get(upstream.url, "/api/v1/saml/metadata?tenant=west")[0] == 200
        assert json.loads(get(upstream.url, "/internal/ops/integrations/check")[2])["invalid_grant"] == 1
        assert json.loads(get(upstream.url, "/internal/ops/saml/check")[2])["expired"] == 0
        assert get(upstream.url, "/nowhere")[0] == 404
    with Upstream("auth") as upstream:
        assert json.loads(get(upstream.url, "/internal/ops/saml/check")[2])["expired"] == 1


def test_lines_are_written_when_their_time_comes_and_messages_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    with Live(tmp_path / "demo", OUTAGES["deploy"], real_clock, told.append) as live:
        demo = live.prepared
        loaded = demo.log.stat().st_size
        until(lambda: demo.log.stat().st_size > loaded)
        url = str(load_settings(demo.settings).notify.channels["oncall"].webhook.url)  # type: ignore[union-attr]
        body = {"tocsin": {"attempt": 1, "title": "FIRING critical: High Error Rate"}}
        _post(url, body)
        until(lambda: told == ["FIRING critical: High Error Rate"])
    log = demo.log.read_bytes()
    assert log.endswith(b"\n")
    newest = max(line[14:37] for line in log[loaded:].split(b"\n") if line.startswith(b'{"timestamp"'))
    assert newest.decode()[:19] <= iso(real_clock())


def _post(url: str, body: dict[str, Any]) -> None:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("POST", f"/{path}", json.dumps(body), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


# --- the terminal ---------------------------------------------------------------------------------------


def test_the_terminal_says_where_to_look_and_what_was_found(tmp_path: Path) -> None:
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed below
    shown: list[str] = []

    def show(renderable: RenderableType) -> None:
        console.print(renderable)
        shown.append(console.export_text())

    def serve(demo: Prepared, start_at_us: int, ready: Callable[[str], None]) -> None:
        assert start_at_us == demo.until_us - HISTORY_US
        ready("http://127.0.0.1:8642")
        state = State.in_folder(demo.data)
        with state.transaction() as session:
            _found(session)
        state.close()
        until(lambda: any("deploy regression" in text for text in shown))

    run(tmp_path / "demo", "deploy", real_clock, show, serve)
    console.file.close()
    said = "".join(shown)
    assert "lines/s" in said
    assert "alerts could fire on these lines" in said
    assert "tocsin why HighErrorRate --data" in said
    assert "HighErrorRate fired: http://127.0.0.1:8642/incidents/1" in said
    assert "likely cause, by the runbook deployment-rollback: deploy regression" in said
    assert said.count("HighErrorRate fired") == 1
    assert threading.active_count() < 10


def _found(session: Any) -> None:
    opened = Incident(title="t", severity="critical", environment="production", status="open", opened_at=1)
    session.add(opened)
    session.flush()
    labels = {"service": "k12-core"}
    session.add(
        IncidentAlert(
            incident_id=opened.id,
            alert="HighErrorRate",
            labels=labels,
            labels_key="k",
            severity="critical",
            pending_at=NOW_US,
            fired_at=NOW_US,
        )
    )
    cause = {"cause": "deploy-regression", "title": "deploy regression", "strength": "likely"}
    session.add(
        RunbookRun(
            incident_id=opened.id,
            runbook="deployment-rollback",
            phase="fire",
            status="done",
            created_at=NOW_US,
            as_of=NOW_US,
            labels=labels,
            inputs={},
            finished_at=NOW_US,
            causes=[{**cause, "because": ["5xx rose"]}],
        )
    )


def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match="choose deploy, sync, auth"):
        run(tmp_path / "demo", "flood", real_clock, lambda _: None, lambda *_: None)
    assert not (tmp_path / "demo").exists()
