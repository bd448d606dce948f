"""Acknowledge, note and resolve; who did it is in the audit log before it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from histories import SECOND
from sqlalchemy.orm import Session
from transitions import CORE, Flow

from tocsin_server import incident
from tocsin_server.errors import TocsinError
from tocsin_server.state.tables import AuditEntry, IncidentAlert, TimelineEntry


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    made = Flow(tmp_path)
    made.fires("HighErrorRate", CORE, 600)
    made.step(603)
    yield made
    made.close()


def does(flow: Flow, act: Callable[..., None], *arguments: Any) -> None:
    with flow.state.transaction() as session:
        act(session, *arguments)


def test_acknowledge(flow: Flow) -> None:
    does(flow, incident.acknowledge, 1, "Alice", 700 * SECOND)
    does(flow, incident.acknowledge, 1, "Bob", 800 * SECOND)
    one = flow.incident()
    assert (one.status, one.acknowledged_by, one.acknowledged_at) == ("acknowledged", "Alice", 700 * SECOND)
    assert [row.who for row in flow.rows(TimelineEntry, kind="acknowledged")] == ["Alice", "Bob"]
    assert [(row.who, row.action, row.subject) for row in flow.rows(AuditEntry)] == [
        ("Alice", "incident.acknowledge", "incident 1"),
        ("Bob", "incident.acknowledge", "incident 1"),
    ]


def test_an_acknowledged_incident_is_still_joined(flow: Flow) -> None:
    does(flow, incident.acknowledge, 1, "Alice", 700 * SECOND)
    flow.fires("SlowResponses", CORE, 720)
    flow.step(723)
    assert flow.incident().status == "acknowledged"


def test_note(flow: Flow) -> None:
    does(flow, incident.note, 1, "Alice", "rolled back to 1.4.2", 700 * SECOND)
    (entry,) = flow.rows(TimelineEntry, kind="note")
    assert (entry.text, entry.who, entry.at) == ("rolled back to 1.4.2", "Alice", 700 * SECOND)


def test_resolve_by_a_person_leaves_firing_alerts_visible(flow: Flow) -> None:
    does(flow, incident.resolve, 1, "Alice", 700 * SECOND)
    one = flow.incident()
    assert (one.status, one.resolved_by, one.resolved_at) == ("resolved", "Alice", 700 * SECOND)
    assert [row.resolved_at for row in flow.rows(IncidentAlert)] == [None]
    assert flow.kinds()[-2:] == ["resolved", "note"]
    assert ("database-issues", "resolve") in flow.runs()


def test_the_alert_of_a_closed_incident_resolves_without_closing_it_again(flow: Flow) -> None:
    does(flow, incident.resolve, 1, "Alice", 700 * SECOND)
    flow.resolves("HighErrorRate", CORE, 900, fired=600)
    flow.step(903)
    assert flow.kinds().count("resolved") == 1
    assert flow.incident().resolved_at == 700 * SECOND
    assert flow.rows(IncidentAlert)[0].resolved_at == 900 * SECOND


WRONG = {
    "no such incident": (
        incident.acknowledge,
        (7, "Alice"),
        "there is no incident 7: `tocsin incident list`",
    ),
    "nobody": (incident.acknowledge, (1, " "), "give a name"),
    "empty note": (incident.note, (1, "Alice", "  "), "1 to 10000 characters, not 0"),
    "long note": (incident.note, (1, "Alice", "x" * 10_001), "not 10001"),
    "no such incident to note": (incident.note, (7, "Alice", "x"), "no incident 7"),
}


@pytest.mark.parametrize(("act", "arguments", "message"), WRONG.values(), ids=WRONG)
def test_what_is_refused_changes_nothing(flow: Flow, act: Any, arguments: Any, message: str) -> None:
    with pytest.raises(TocsinError, match=message):
        does(flow, act, *arguments, 700 * SECOND)
    assert flow.rows(AuditEntry) == []
    assert flow.kinds() == ["opened"]


@pytest.mark.parametrize("act", [incident.acknowledge, incident.resolve])
def test_a_resolved_incident_takes_notes_only(
    flow: Flow, act: Callable[[Session, int, str, int], None]
) -> None:
    does(flow, incident.resolve, 1, "Alice", 700 * SECOND)
    with pytest.raises(TocsinError, match="was resolved at 1970-01-01T00:11:40Z: add a note instead"):
        does(flow, act, 1, "Bob", 800 * SECOND)
    does(flow, incident.note, 1, "Bob", "post-mortem on Friday", 800 * SECOND)
