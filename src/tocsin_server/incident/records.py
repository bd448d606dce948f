"""The rows of an incident: written by the step and by people in the same way."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US
from tocsin_server.errors import TocsinError
from tocsin_server.state.tables import Incident, RunbookRun, TimelineEntry

#: A runbook runs once per incident and phase, and again only after this long (µs).
RERUN_US = 900 * SECOND_US


def found(session: Session, incident_id: int) -> Incident:
    """The incident. Raises TocsinError when there is none."""
    incident = session.get(Incident, incident_id)
    if incident is None:
        raise TocsinError(f"there is no incident {incident_id}: `tocsin incident list` shows them")
    return incident


def tell(session: Session, incident: Incident, at_us: int, kind: str, text: str, who: str = "") -> None:
    """Adds an entry to the incident's timeline."""
    session.add(TimelineEntry(incident_id=incident.id, at=at_us, kind=kind, text=text, who=who))


def ask(
    session: Session,
    incident: Incident,
    runbook: str,
    phase: str,
    labels: Mapping[str, str],
    as_of_us: int,
    now_us: int,
) -> None:
    """Asks for a run of a runbook, unless it was asked for in this incident and phase within 15 min.

    The steps look back from ``as_of_us``; ``labels`` are the alert's.
    """
    recent = select(RunbookRun.id).where(
        RunbookRun.incident_id == incident.id,
        RunbookRun.runbook == runbook,
        RunbookRun.phase == phase,
        RunbookRun.created_at > now_us - RERUN_US,
    )
    if session.scalar(recent.limit(1)) is None:
        session.add(
            RunbookRun(
                incident_id=incident.id,
                runbook=runbook,
                phase=phase,
                status="pending",
                created_at=now_us,
                as_of=as_of_us,
                labels=dict(labels),
                inputs={},
            )
        )


def close(session: Session, incident: Incident, at_us: int, now_us: int, who: str = "") -> None:
    """The incident is resolved: what its runbooks looked at is looked at again, for comparison."""
    incident.status, incident.resolved_at, incident.resolved_by = "resolved", at_us, who or None
    text = f"Resolved by {who}" if who else "Resolved: every alert of the incident is over"
    tell(session, incident, at_us, "resolved", text, who)
    fire = select(RunbookRun).where(RunbookRun.incident_id == incident.id, RunbookRun.phase == "fire")
    labels = {run.runbook: run.labels for run in session.scalars(fire.order_by(RunbookRun.id))}
    for runbook, of_alert in labels.items():
        ask(session, incident, runbook, "resolve", of_alert, at_us, now_us)
