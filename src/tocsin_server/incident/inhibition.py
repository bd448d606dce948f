"""Inhibition: while a source alert fires, its targets with equal labels are not notified.

Everything else about a target goes on. As in Alertmanager, a label that is missing on both sides is equal,
and an alert does not inhibit itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.rules import Inhibition
from tocsin_server.state.tables import AlertState, Incident, IncidentAlert

Labels = Mapping[str, str]


def inhibitor(
    session: Session, inhibitions: Sequence[Inhibition], alert: str, labels: Labels
) -> tuple[str, Labels] | None:
    """The firing instance (alert, labels) that keeps ``alert`` from being notified, if there is one."""
    for inhibition in inhibitions:
        if alert in inhibition.targets and alert != inhibition.source:
            for source in _firing(session, inhibition.source):
                if _equal(inhibition, source, labels):
                    return inhibition.source, source
    return None


def released(
    session: Session, inhibitions: Sequence[Inhibition], alert: str, labels: Labels
) -> Iterator[tuple[IncidentAlert, Incident]]:
    """Episodes that still fire and that nothing inhibits any more, now that ``alert`` does not fire."""
    for inhibition in inhibitions:
        if inhibition.source != alert:
            continue
        targets = (
            select(IncidentAlert, Incident)
            .join(Incident, Incident.id == IncidentAlert.incident_id)
            .where(IncidentAlert.resolved_at.is_(None), IncidentAlert.alert.in_(inhibition.targets))
            .where(Incident.drill == "")
            .order_by(IncidentAlert.id)
        )
        for episode, incident in session.execute(targets).all():
            still = inhibitor(session, inhibitions, episode.alert, episode.labels)
            if still is None and _equal(inhibition, labels, episode.labels):
                yield episode, incident


def _firing(session: Session, alert: str) -> Sequence[dict[str, str]]:
    rows = select(AlertState.labels).where(AlertState.alert == alert, AlertState.fired_at.is_not(None))
    return session.scalars(rows).all()


def _equal(inhibition: Inhibition, source: Labels, target: Labels) -> bool:
    return all(source.get(name, "") == target.get(name, "") for name in inhibition.equal)
