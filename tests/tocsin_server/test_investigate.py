"""The investigate step: pending runs become evidence, once, whatever happens (rows O14, O18)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import duckdb
import histories
import pytest
from runbooks_for_tests import AS_OF, http_connection, over, runbook, step
from servers import reply, serving
from sqlalchemy import select

from tocsin_server.clock import frozen_clock
from tocsin_server.errors import TocsinError
from tocsin_server.impact import Affected
from tocsin_server.investigate import Investigator, together
from tocsin_server.runbook import conditions
from tocsin_server.runbook.evidence import canonical_sha256
from tocsin_server.runbook.model import Action, Cause, Finding, Input, Runbook
from tocsin_server.runbook.run import Tools
from tocsin_server.state import State
from tocsin_server.state.tables import (
    AuditEntry,
    Evidence,
    Incident,
    IncidentAlert,
    RunbookRun,
    TimelineEntry,
    labels_key,
)

NOW = AS_OF + 5 * histories.SECOND
LABELS = {"service": "k12-core", "provider": "google"}
BOOK = runbook(
    step("errors", "SELECT error, count(*) AS n FROM events WHERE provider = :provider GROUP BY error"),
    step("provider", "GET /status"),
    step("again", "SELECT 1 AS x FROM events", section="Verification"),
    inputs=[Input("provider", "slug", source="labels.provider")],
    findings=(
        Finding(
            "errors", conditions.parse('errors.any(error ~ "grant")'), "likely", "revoked", "Sign in.", 1
        ),
    ),
    causes=(Cause("revoked", "Token revoked", "", ("sign-in",), 2),),
    actions=(Action("sign-in", "Sign in", "", (), 3),),
)
FAILED = list(histories.at([610, 620], "sync.run", provider="google", error="invalid_grant"))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.in_folder(tmp_path)
    yield opened
    opened.close()


def investigator(
    state: State, *books: Runbook, core: str = "", affected: Any = None, **given: Any
) -> Investigator:
    connections = {"core": http_connection(core)} if core else {}
    by_id = {book.id: book for book in books or (BOOK,)}
    use = Tools(**{"connect": over(FAILED), "connections": connections, **given})
    return Investigator(state, lambda: by_id, use, frozen_clock(NOW), affected)


def asked_for(state: State, phase: str = "fire", runbook_id: str = BOOK.id, count: int = 1) -> list[int]:
    """Pending runs of one incident, as the incident step writes them."""
    with state.transaction() as session:
        incident = Incident(
            title="Sync failures",
            severity="warning",
            environment="production",
            status="open",
            opened_at=AS_OF,
        )
        session.add(incident)
        session.flush()
        session.add(
            IncidentAlert(
                incident_id=incident.id,
                alert="SyncFailures",
                labels_key=labels_key(LABELS),
                labels=LABELS,
                severity="warning",
                pending_at=AS_OF,
                fired_at=AS_OF,
            )
        )
        runs = [
            RunbookRun(
                incident_id=incident.id,
                runbook=runbook_id,
                phase=phase,
                status="pending",
                created_at=AS_OF,
                as_of=AS_OF,
                labels=LABELS,
                inputs={},
            )
            for _ in range(count)
        ]
        session.add_all(runs)
    return [run.id for run in runs]


def rows(state: State, table: Any) -> list[Any]:
    with state.reading() as session:
        found = list(session.scalars(select(table).order_by(table.id)))
        session.expunge_all()
    return found


def test_a_pending_run_becomes_evidence_a_cause_and_a_timeline(state: State) -> None:
    asked_for(state)
    with serving(reply(200, b'{"status":"ok"}')) as base:
        assert investigator(state, core=base).step(NOW) == 1
    (run,) = rows(state, RunbookRun)
    assert (run.status, run.started_at, run.finished_at, run.file_sha256) == ("done", NOW, NOW, "f" * 64)
    assert run.causes == [
        {
            "cause": "revoked",
            "title": "Token revoked",
            "strength": "likely",
            "because": ["Errors: error invalid_grant, n 2: Sign in."],
        }
    ]
    errors, provider = rows(state, Evidence)
    assert (errors.ordinal, errors.step, errors.title, errors.kind) == (0, "errors", "Errors", "sql")
    assert (errors.status, errors.rows) == ("ok", [["invalid_grant", 2]])
    assert (errors.parameters, errors.connection) == ({"provider": "google"}, "events")
    assert (errors.block_sha256, errors.started_at) == (BOOK.investigation[0].sha256, NOW)
    assert errors.findings == [
        {
            "condition": 'errors.any(error ~ "grant")',
            "verdict": True,
            "reason": errors.findings[0]["reason"],
            "strength": "likely",
            "text": "Sign in.",
            "cause": "revoked",
        }
    ]
    assert (provider.ordinal, provider.http["status"], provider.http["body"]) == (1, 200, '{"status": "ok"}')
    told = [(entry.kind, entry.text.split(", in ")[0]) for entry in rows(state, TimelineEntry)]
    assert told == [
        ("evidence", "Sync failure, at fire: 2 of 2 steps answered"),
        ("cause", "Likely cause: Token revoked (Errors: error invalid_grant, n 2: Sign in.)"),
    ]


def test_the_stored_evidence_proves_its_hash(state: State) -> None:
    asked_for(state)
    investigator(state).step(NOW)
    fields = (
        *("step", "target", "rendered", "parameters", "status", "reason", "started_at", "duration_ms"),
        *("columns", "rows", "http", "truncated", "redactions"),
    )
    for evidence in rows(state, Evidence):
        assert canonical_sha256({name: getattr(evidence, name) for name in fields}) == evidence.sha256


def test_steps_that_did_not_run_are_evidence_too(state: State) -> None:
    asked_for(state, "resolve")
    investigator(state).step(NOW)
    found = {evidence.step: (evidence.status, evidence.reason) for evidence in rows(state, Evidence)}
    assert found["provider"] == (
        "not_connected",
        "connection `core` is not in tocsin.yaml: add it under connections",
    )
    assert found["again"][0] == "ok"
    (told,) = rows(state, TimelineEntry)
    assert told.text.startswith("Sync failure, at resolve: 2 of 3 steps answered, 1 not connected, in ")


def test_no_cause_is_said_to_be_none(state: State) -> None:
    asked_for(state)
    investigator(state, connect=over([])).step(NOW)
    assert rows(state, TimelineEntry)[-1].text == "Sync failure: no cause stands out"
    assert rows(state, RunbookRun)[0].causes == []


def test_a_runbook_that_is_gone_ends_its_run_with_a_reason(state: State) -> None:
    asked_for(state, runbook_id="removed")
    assert investigator(state).step(NOW) == 1
    (run,) = rows(state, RunbookRun)
    assert run.status == "done"
    assert run.reason.startswith("there is no runbook removed: it was removed or has faults")
    assert [entry.kind for entry in rows(state, TimelineEntry)] == ["evidence"]


def test_two_runs_at_once_and_every_one_once(state: State) -> None:
    together_now = threading.Barrier(2, timeout=10)
    lock, active, most = threading.Lock(), [0], [0]

    def answering(handler: BaseHTTPRequestHandler) -> None:
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        together_now.wait()
        with lock:
            active[0] -= 1
        reply()(handler)

    asked_for(state, count=4)
    book = replace(BOOK, investigation=BOOK.investigation[1:2], findings=())
    with serving(answering) as base:
        eye = investigator(state, book, core=base)
        assert (eye.step(NOW), eye.step(NOW)) == (4, 0)
    assert most == [2]
    assert [run.status for run in rows(state, RunbookRun)] == ["done"] * 4
    assert len(rows(state, Evidence)) == 4


def test_O14_a_run_that_the_process_did_not_survive_is_interrupted_and_never_repeated(state: State) -> None:
    (run_id,) = asked_for(state)
    with state.transaction() as session:
        session.get_one(RunbookRun, run_id).status = "running"
    eye = investigator(state)
    assert (eye.recover(), eye.recover(), eye.step(NOW)) == (1, 0, 0)
    (run,) = rows(state, RunbookRun)
    assert (run.status, run.finished_at, rows(state, Evidence)) == ("interrupted", NOW, [])
    assert rows(state, TimelineEntry)[0].text.startswith("Runbook sync-failure was interrupted")


def test_a_fault_of_ours_does_not_leave_a_run_behind(state: State) -> None:
    asked_for(state, count=2)

    def broken(_as_of_us: int) -> Any:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        investigator(state, connect=broken).step(NOW)
    assert {(run.status, run.reason) for run in rows(state, RunbookRun)} == {("done", "it failed: a bug")}


# --- impact -----------------------------------------------------------------------------------------------


def test_the_fire_run_says_whom_the_incident_concerns(state: State) -> None:
    questions: list[tuple[object, ...]] = []

    def affected(*question: object) -> Affected:
        questions.append(question)
        return Affected(("7", "9"), 2, ("u_1",), 31)

    asked_for(state)
    investigator(state, affected=affected).step(NOW)
    (incident,) = rows(state, Incident)
    assert incident.tenants == {"ids": ["7", "9"], "count": 2}
    assert incident.users == {"ids": ["u_1"], "count": 31}
    assert questions == [("SyncFailures", LABELS, AS_OF, NOW)]
    asked_for(state, "resolve")
    investigator(state, affected=affected).step(NOW)
    assert len(questions) == 1


def test_an_impact_that_cannot_be_computed_costs_no_evidence(state: State) -> None:
    def affected(*_question: object) -> Affected:
        raise duckdb.IOException("a file is gone")

    asked_for(state)
    investigator(state, affected=affected).step(NOW)
    assert len(rows(state, Evidence)) == 2
    assert rows(state, Incident)[0].tenants is None


def test_the_affected_of_several_alerts_are_counted_once() -> None:
    both = together(
        [Affected(("7",), 1, ("u_1", "u_2"), 40), Affected(("7", "9"), 2, ("u_2",), 1, "guessed")]
    )
    assert both == {
        "tenants": {"ids": ["7", "9"], "count": 2, "approximate": "guessed"},
        "users": {"ids": ["u_1", "u_2"], "count": 40, "approximate": "guessed"},
    }
    assert together([]) == {}


# --- by hand ----------------------------------------------------------------------------------------------


def test_O18_a_manual_run_is_audited_and_kept(state: State) -> None:
    asked_for(state)
    report = investigator(state).run_manual(BOOK.id, {"provider": "google"}, "ana", incident_id=1)
    assert [answer.status for answer in report.answers.values()] == ["ok", "not_connected", "ok"]
    run = rows(state, RunbookRun)[-1]
    assert (run.phase, run.status, run.requested_by, run.incident_id) == ("manual", "done", "ana", 1)
    assert len(rows(state, Evidence)) == 3
    (audit,) = rows(state, AuditEntry)
    assert (audit.who, audit.action, audit.subject) == ("ana", "runbook.run", BOOK.id)
    assert audit.detail == {"inputs": {"provider": "google"}, "incident": 1, "file_sha256": "f" * 64}
    assert "on request" in rows(state, TimelineEntry)[0].text


def test_a_manual_run_of_one_step(state: State) -> None:
    report = investigator(state).run_manual(BOOK.id, {}, "ana", only=["again"])
    assert list(report.answers) == ["again"]


def test_a_dry_run_leaves_no_trace(state: State) -> None:
    report = investigator(state).run_manual(BOOK.id, {"provider": "google"}, "ana", dry_run=True)
    assert report.answers["errors"].reason == "dry run: not asked"
    assert report.answers["errors"].parameters == {"provider": "google"}
    assert [rows(state, table) for table in (RunbookRun, Evidence, AuditEntry)] == [[], [], []]


@pytest.mark.parametrize(
    ("runbook_id", "given", "more", "said"),
    [
        ("nobody", {}, {}, "there is no runbook nobody: `tocsin runbook list` shows them"),
        (BOOK.id, {"x": "1"}, {}, "there is no input x; the runbook's inputs are: provider"),
        (BOOK.id, {"provider": "../x"}, {}, "input provider is not a word"),
        (BOOK.id, {}, {"only": ["gone"]}, "has no step gone"),
        (BOOK.id, {}, {"incident_id": 7}, "there is no incident 7: `tocsin incident list` shows them"),
    ],
)
def test_what_cannot_be_run_by_hand_is_said_and_leaves_no_run(
    state: State, runbook_id: str, given: Mapping[str, str], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(TocsinError) as caught:
        investigator(state).run_manual(runbook_id, given, "ana", **more)
    assert said in str(caught.value)
    assert (rows(state, RunbookRun), rows(state, AuditEntry)) == ([], [])
