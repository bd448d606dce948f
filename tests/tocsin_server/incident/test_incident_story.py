"""What is shown of an incident, and the document that a stranger reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from histories import SECOND
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from transitions import CORE, Flow

from tocsin_server import incident
from tocsin_server.errors import TocsinError
from tocsin_server.incident.markdown import fence, table, text
from tocsin_server.state.tables import DeliveryAttempt, Evidence, Incident, Notification, RunbookRun

HOSTILE = (
    "<script>alert(1)</script> | [x](javascript:alert(1)) `` ``` \x1b[31m\u202e ![i](http://evil.test) # h"
)
LIKELY = {"cause": "bad-deploy", "title": "Bad deploy", "strength": "likely", "because": ["errors began"]}
POSSIBLE = {"cause": "slow-db", "title": "Slow database", "strength": "possible", "because": ["a", "b"]}


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    made = Flow(tmp_path)
    made.fires("HighErrorRate", CORE, 600)
    made.step(603)
    yield made
    made.close()


def evidence(run: RunbookRun, step: str, **fields: Any) -> Evidence:
    values: dict[str, Any] = {
        "ordinal": 0,
        "title": f"Step {step}",
        "kind": "sql",
        "connection": "events",
        "target": "",
        "rendered": "SELECT error, count(*) AS n FROM events",
        "parameters": {"since": "15m"},
        "block_sha256": "0" * 64,
        "status": "ok",
        "reason": "",
        "started_at": 604 * SECOND,
        "duration_ms": 12.0,
        "columns": ["error", "n"],
        "rows": [["PG::ConnectionBad", 17]],
        "truncated": False,
        "redactions": 0,
        "findings": [],
        "sha256": "1" * 64,
    }
    return Evidence(run_id=run.id, step=step, **{**values, **fields})


def investigated(flow: Flow, **fields: Any) -> None:
    """Every pending run is done and found something."""
    with flow.state.transaction() as session:
        for run in session.query(RunbookRun).where(RunbookRun.status == "pending"):
            run.status, run.finished_at = "done", run.created_at + SECOND
            run.causes = [LIKELY] if run.runbook == "deployment-rollback" else [POSSIBLE]
            session.add(evidence(run, "errors", **fields))


def shown(flow: Flow) -> dict[str, Any]:
    with flow.state.reading() as session:
        return incident.show(session, 1)


def over(flow: Flow) -> None:
    """The whole story: investigated, acknowledged, resolved, investigated again, told."""
    investigated(flow)
    with flow.state.transaction() as session:
        incident.acknowledge(session, 1, "Alice", 700 * SECOND)
        incident.note(session, 1, "Alice", "Rolled back to 1.4.2", 720 * SECOND)
        one = session.get_one(Incident, 1)
        one.tenants, one.users = {"ids": ["7", "12"], "count": 2}, {"ids": ["u_1"], "count": 3}
    flow.resolves("HighErrorRate", CORE, 1560, fired=600)
    flow.step(1563)
    investigated(flow, rows=[])
    with flow.state.transaction() as session:
        message = Notification(
            key="k1",
            channel="oncall",
            group_key="g",
            incident_id=1,
            reason="first",
            body={"title": "FIRING critical: High Error Rate"},
            status="delivered",
            created_at=604 * SECOND,
            delivered_at=605 * SECOND,
            attempts=1,
        )
        session.add(message)
        session.flush()
        session.add(
            DeliveryAttempt(
                notification_id=message.id,
                number=1,
                started_at=604 * SECOND,
                duration_ms=80.0,
                outcome="accepted",
                answer="200",
            )
        )


# --- show and list --------------------------------------------------------------------------------------


def test_show_is_the_whole_story_as_json(flow: Flow) -> None:
    over(flow)
    story = json.loads(json.dumps(shown(flow)))
    assert (story["id"], story["status"], story["firing"]) == (1, "resolved", 0)
    assert (story["opened_at"], story["resolved_at"]) == ("1970-01-01T00:10:00Z", "1970-01-01T00:26:00Z")
    assert story["alerts"] == [
        {
            "id": 1,
            "alert": "HighErrorRate",
            "labels": CORE,
            "severity": "critical",
            "pending_at": "1970-01-01T00:10:00Z",
            "fired_at": "1970-01-01T00:10:00Z",
            "resolved_at": "1970-01-01T00:26:00Z",
            "value": 0.124,
        }
    ]
    assert [(cause["runbook"], cause["cause"]) for cause in story["causes"]] == [
        ("deployment-rollback", "bad-deploy"),
        ("database-issues", "slow-db"),
    ]
    assert [delivery["channel"] for delivery in story["deliveries"]] == ["oncall"]
    assert story["timeline"][0]["kind"] == "opened"


def test_evidence_at_fire_is_beside_evidence_at_resolve(flow: Flow) -> None:
    over(flow)
    pair = shown(flow)["evidence"][0]
    assert (pair["runbook"], pair["step"], pair["kind"]) == ("deployment-rollback", "errors", "sql")
    assert (pair["fire"]["rows"], pair["resolve"]["rows"]) == ([["PG::ConnectionBad", 17]], [])
    assert pair["fire"]["started_at"] == "1970-01-01T00:10:04Z"


def test_what_was_not_asked_yet_is_none(flow: Flow) -> None:
    investigated(flow)
    assert [pair["resolve"] for pair in shown(flow)["evidence"]] == [None, None]


def test_listing_is_newest_first_with_the_likeliest_cause(flow: Flow) -> None:
    investigated(flow)
    flow.fires("AuthFailures", {"environment": "production"}, 700)
    flow.step(703)
    with flow.state.reading() as session:
        rows = incident.listing(session)
        assert incident.listing(session, status="resolved") == []
        assert incident.listing(session, limit=1) == rows[:1]
    assert [(row["id"], row["firing"]) for row in rows] == [(2, 1), (1, 1)]
    assert rows[0]["cause"] is None
    assert rows[1]["cause"]["title"] == "Bad deploy"


def test_show_names_the_way_to_what_there_is(flow: Flow) -> None:
    with (
        flow.state.reading() as session,
        pytest.raises(TocsinError, match="there is no incident 9: `tocsin inc"),
    ):
        incident.show(session, 9)


# --- the document ---------------------------------------------------------------------------------------


def test_a_stranger_finds_every_answer(flow: Flow) -> None:
    over(flow)
    document = incident.export_markdown(shown(flow))
    for answer in (
        "# Incident 1: High Error Rate: k12-core (production)",
        "**Critical, resolved.** Began 1970-01-01 00:10:00, ended 1970-01-01 00:26:00, after 16 min.",
        "fired: 12.4%",
        "- 2 tenants: 7, 12",
        "- fewer than 10 users",
        "- **Bad deploy** (likely, runbook deployment-rollback)",
        "  - errors began",
        "- 1970-01-01 00:10:04: told oncall (delivered after 1 attempt): FIRING critical: High Error Rate",
        "- 1970-01-01 00:11:40: Acknowledged by Alice",
        "- 1970-01-01 00:12:00: Alice noted: Rolled back to 1.4.2",
        "| PG::ConnectionBad | 17 |",
        "**At the end** (1970-01-01 00:10:04): ok.",
        "No rows.",
    ):
        assert answer in document
    assert "u_1" not in document
    sections = [line for line in document.splitlines() if line.startswith("## ")]
    assert sections == [
        "## What happened",
        "## For whom",
        "## Likely cause",
        "## What was done",
        "## Timeline",
        "## Evidence",
    ]


def test_what_is_not_known_is_said(flow: Flow) -> None:
    document = incident.export_markdown(shown(flow))
    for words in ("was not over when this was written", "Not known: the events", "No runbook has looked"):
        assert words in document
    assert "Nobody was notified, and nobody wrote anything down." in document
    assert "There is none: no runbook has run." in document


def test_a_drill_says_so(tmp_path: Path) -> None:
    flow = Flow(tmp_path)
    flow.fires("HighErrorRate", CORE, 600, drill="d1")
    flow.step(603)
    assert "**This was a drill:**" in incident.export_markdown(shown(flow))
    flow.close()


def test_I12_hostile_text_is_text(tmp_path: Path) -> None:
    flow = Flow(tmp_path)
    flow.fires("HighErrorRate", {"service": HOSTILE, "environment": "production"}, 600)
    flow.step(603)
    http = {"status": 200, "headers": {"x": HOSTILE}, "body": f"{HOSTILE}\n```\n# not a heading"}
    investigated(flow, title=HOSTILE, rendered=HOSTILE, rows=[[HOSTILE, 1]], reason=HOSTILE)
    with flow.state.transaction() as session:
        incident.note(session, 1, HOSTILE, HOSTILE, 700 * SECOND)
        run = session.query(RunbookRun).first()
        session.add(evidence(run, "http", http=http, columns=[], rows=[], ordinal=1))
    document = incident.export_markdown(shown(flow))
    flow.close()
    assert "\x1b" not in document
    assert "\u202e" not in document
    assert _dangerous(document) == []
    assert document.count("# not a heading") == 1


def _dangerous(document: str) -> list[str]:
    """Kinds of tokens that a renderer which allows everything finds in it, and the document never writes."""
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    tokens = [child for token in parser.parse(document) for child in (token, *(token.children or ()))]
    return [t.type for t in tokens if t.type in ("html_inline", "html_block", "link_open", "image")]


PIECES = st.sampled_from(
    [
        "<b>",
        "`",
        "|",
        "[a](b)",
        "![",
        "*",
        "_",
        "~~",
        "\\",
        "#",
        "- ",
        "1. ",
        "> ",
        "&lt;",
        "\n",
        "x",
        " ",
        "==",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_I12_escaped_text_renders_as_itself(value: str) -> None:
    parser = MarkdownIt("gfm-like", {"linkify": False})
    wanted = value.replace("\n", "\\n").strip()
    inline = [token for token in parser.parse(f"- {text(value)}") if token.type == "inline"]
    assert "".join(token.content for token in (inline[0].children or ())) == wanted if inline else not wanted
    cells = [token for token in parser.parse("\n".join(table(["a"], [[value]]))) if token.type == "inline"]
    assert "".join(token.content for token in (cells[1].children or ())) == wanted if len(cells) > 1 else True


@given(st.text(alphabet="`~a\n ", max_size=30))
def test_I12_nothing_ends_a_code_block(code: str) -> None:
    tokens = MarkdownIt().parse("\n".join([*fence(code), "", "after"]))
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
