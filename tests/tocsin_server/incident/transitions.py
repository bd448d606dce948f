"""Transitions as the evaluator writes them, and what the incident step makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from histories import ALERTS, SECOND
from sqlalchemy import select

from tocsin_server import incident
from tocsin_server.config import Route
from tocsin_server.rules import Catalogue, load_catalogue
from tocsin_server.state import State
from tocsin_server.state.tables import (
    AlertState,
    AlertTransition,
    Incident,
    NotificationGroup,
    RunbookRun,
    TimelineEntry,
    labels_key,
)

CORE = {"service": "k12-core", "environment": "production"}
GATEWAY = {"service": "k12-ai-gateway", "environment": "production"}
ROUTES = [Route(to=["oncall"])]
CATALOGUE = load_catalogue([ALERTS])


class Flow:
    """A state database between the evaluator and the notifier."""

    def __init__(self, folder: Path, catalogue: Catalogue = CATALOGUE) -> None:
        self.state = State.in_folder(folder)
        self.catalogue = catalogue

    def fires(self, alert: str, labels: dict[str, str], t: int, **fields: Any) -> None:
        """The alert fires at ``t`` seconds, as the evaluator would write it."""
        key = {"alert": alert, "labels_key": labels_key(labels), "labels": labels}
        at = {"pending_at": t * SECOND, "fired_at": t * SECOND}
        with self.state.transaction() as session:
            session.add(_transition(**key, **at, to="firing", at=t * SECOND, **fields))
            session.merge(AlertState(**key, **at, active_at=t * SECOND))

    def resolves(self, alert: str, labels: dict[str, str], t: int, fired: int = 0, **fields: Any) -> None:
        key = {"alert": alert, "labels_key": labels_key(labels), "labels": labels}
        at = {"pending_at": fired * SECOND, "fired_at": fired * SECOND}
        with self.state.transaction() as session:
            session.add(_transition(**key, **at, to="resolved", at=t * SECOND, **fields))
            if state := session.get(AlertState, (alert, key["labels_key"])):
                session.delete(state)

    def step(self, t: int) -> int:
        return incident.step(self.state, self.catalogue, ROUTES, t * SECOND)

    def rows(self, table: type[Any], **where: Any) -> list[Any]:
        with self.state.reading() as session:
            found = list(session.scalars(select(table).filter_by(**where)))
            session.expunge_all()
            return found

    def incident(self) -> Incident:
        (only,) = self.rows(Incident)
        return only

    def kinds(self) -> list[str]:
        """The timeline's kinds, without what the notifier adds."""
        return [row.kind for row in self.rows(TimelineEntry)]

    def runs(self) -> list[tuple[str, str]]:
        return [(run.runbook, run.phase) for run in self.rows(RunbookRun)]

    def told(self) -> list[tuple[str, str]]:
        """(alert, firing or resolved) of the members of every notification group."""
        members = [member for group in self.rows(NotificationGroup) for member in group.members]
        return sorted((m["alert"], "resolved" if m["resolved_at"] else "firing") for m in members)

    def close(self) -> None:
        self.state.close()


def _transition(**fields: Any) -> AlertTransition:
    values = {"evaluated_at": fields["at"], "value": 0.124, "superseded": False, "drill": "", **fields}
    return AlertTransition(**values)
