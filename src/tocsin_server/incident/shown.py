"""What is known about incidents, as plain data: the JSON of ``tocsin incident list`` and ``show``.

Times are ISO 8601 UTC. Nothing is escaped here: whoever shows it does that in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tocsin_server.clock import iso
from tocsin_server.incident.records import found
from tocsin_server.notify.ledger import deliveries
from tocsin_server.state.tables import Evidence, Incident, IncidentAlert, RunbookRun, TimelineEntry

#: Deliveries of one incident that are listed, the newest.
MAX_DELIVERIES = 100
_STRENGTHS = ("likely", "possible")
_TIMES = {"at", "opened_at", "acknowledged_at", "pending_at", "fired_at", "resolved_at", "created_at"}
_TIMES |= {"as_of", "started_at", "finished_at"}


def listing(session: Session, status: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Incidents, the newest first: how they stand, whom they concern, the likeliest cause.

    ``status`` is ``open``, ``acknowledged`` or ``resolved``; without it all are listed.
    """
    newest = select(Incident).order_by(Incident.id.desc()).limit(limit)
    if status is not None:
        newest = newest.where(Incident.status == status)
    incidents = session.scalars(newest).all()
    ids = [incident.id for incident in incidents]
    firing, causes = _firing(session, ids), _causes_of(session, ids)
    return [
        {**_head(one), "firing": firing.get(one.id, 0), "cause": next(iter(causes.get(one.id, [])), None)}
        for one in incidents
    ]


def show(session: Session, incident_id: int) -> dict[str, Any]:
    """Everything about one incident. Raises TocsinError when there is none.

    ``alerts``: its firing episodes. ``causes``: what the runbooks that ran on fire found, likeliest first.
    ``runs``: every run of a runbook. ``evidence``: per runbook and step the last answer at ``fire`` beside
    the last one at ``resolve`` (None: not asked), with the columns of the evidence table. ``timeline`` and
    ``deliveries``: what happened, and who was told.
    """
    incident = found(session, incident_id)
    alerts = _of(session, IncidentAlert, incident_id)
    runs = _of(session, RunbookRun, incident_id)
    timeline = _of(session, TimelineEntry, incident_id)
    return {
        **_head(incident),
        "firing": sum(alert.resolved_at is None for alert in alerts),
        "alerts": [_plain(row, without=("incident_id", "labels_key")) for row in alerts],
        "causes": _ranked(runs),
        "runs": [_plain(row, without=("incident_id",)) for row in runs],
        "evidence": _beside(session, runs),
        "timeline": [_plain(row, without=("id", "incident_id")) for row in timeline],
        "deliveries": deliveries(session, MAX_DELIVERIES, incident_id),
    }


def _of(session: Session, table: type[Any], incident_id: int) -> Sequence[Any]:
    return session.scalars(select(table).where(table.incident_id == incident_id).order_by(table.id)).all()


def _head(incident: Incident) -> dict[str, Any]:
    return _plain(incident)


def _plain(row: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """The columns of a row in their order; times as text."""
    values = {column.name: getattr(row, column.name) for column in row.__table__.columns}
    return {name: _value(name, value) for name, value in values.items() if name not in without}


def _value(name: str, value: Any) -> Any:
    return iso(value) if name in _TIMES and value is not None else value


def _firing(session: Session, ids: Sequence[int]) -> Mapping[int, int]:
    still = select(IncidentAlert.incident_id, func.count()).where(
        IncidentAlert.incident_id.in_(ids), IncidentAlert.resolved_at.is_(None)
    )
    return {row[0]: row[1] for row in session.execute(still.group_by(IncidentAlert.incident_id))}


# --- causes ---------------------------------------------------------------------------------------------


def _causes_of(session: Session, ids: Sequence[int]) -> Mapping[int, list[dict[str, Any]]]:
    runs = select(RunbookRun).where(RunbookRun.incident_id.in_(ids)).order_by(RunbookRun.id)
    each: dict[int, list[RunbookRun]] = {}
    for run in session.scalars(runs):
        each.setdefault(run.incident_id or 0, []).append(run)
    return {incident_id: _ranked(mine) for incident_id, mine in each.items()}


def _ranked(runs: Sequence[RunbookRun]) -> list[dict[str, Any]]:
    """The causes of the last fire run of each runbook: likely before possible, then by their reasons."""
    last = {run.runbook: run for run in runs if run.phase == "fire" and run.status == "done"}
    causes = [{"runbook": run.runbook, **cause} for run in last.values() for cause in run.causes]
    return sorted(causes, key=lambda c: (_STRENGTHS.index(c["strength"]), -len(c["because"])))


# --- evidence -------------------------------------------------------------------------------------------


def _beside(session: Session, runs: Sequence[RunbookRun]) -> list[dict[str, Any]]:
    """Per runbook and step, in the order of the document: the answer at fire beside the one at resolve."""
    last = {(run.runbook, run.phase): run.id for run in runs if run.status == "done"}
    answers = select(Evidence).where(Evidence.run_id.in_(last.values())).order_by(Evidence.ordinal)
    by_run: dict[int, dict[str, Evidence]] = {}
    for row in session.scalars(answers):
        by_run.setdefault(row.run_id, {})[row.step] = row
    return [
        pair
        for runbook in dict.fromkeys(run.runbook for run in runs)
        for pair in _pairs(runbook, *(by_run.get(last.get((runbook, p), 0), {}) for p in ("fire", "resolve")))
    ]


def _pairs(
    runbook: str, fire: Mapping[str, Evidence], resolve: Mapping[str, Evidence]
) -> list[dict[str, Any]]:
    pairs = []
    for step in dict.fromkeys((*fire, *resolve)):
        both = {"fire": fire.get(step), "resolve": resolve.get(step)}
        title = next(row.title for row in both.values() if row is not None)
        kind = next(row.kind for row in both.values() if row is not None)
        pairs.append(
            {
                "runbook": runbook,
                "step": step,
                "title": title,
                "kind": kind,
                **{phase: None if row is None else _plain(row, ("id",)) for phase, row in both.items()},
            }
        )
    return pairs
