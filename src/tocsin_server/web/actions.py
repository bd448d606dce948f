"""What people change through the pages: always POST, always with a name in the audit log, then back.

The gate has checked who sends it and from where (:mod:`tocsin_server.web.security`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tocsin_server import incident
from tocsin_server.state.tables import AuditEntry, RunbookRun
from tocsin_server.web.forms import required
from tocsin_server.web.params import BadRequest, Params
from tocsin_server.web.services import Services
from tocsin_server.web.views.incidents import incident_number
from tocsin_server.web.views.runbooks import find

MAX_NOTE = 4000

#: (services, parameters, form, who) -> where to go afterwards.
Action = Callable[[Services, Params, dict[str, str], str], str]


@dataclass(frozen=True, slots=True)
class Post:
    """One thing that can be done at one path."""

    path: str
    action: Action


def acknowledge(services: Services, params: Params, form: dict[str, str], who: str) -> str:
    """Somebody works on the incident."""
    number = incident_number(params.path["id"])
    with services.state.transaction() as session:
        incident.acknowledge(session, number, who, services.clock())
    return f"/incidents/{number}"


def add_note(services: Services, params: Params, form: dict[str, str], who: str) -> str:
    """A note on the incident's timeline."""
    number, text = incident_number(params.path["id"]), required(form, "text", MAX_NOTE)
    with services.state.transaction() as session:
        incident.note(session, number, who, text, services.clock())
    return f"/incidents/{number}#timeline"


def resolve(services: Services, params: Params, form: dict[str, str], who: str) -> str:
    """The incident is over, says a person."""
    number = incident_number(params.path["id"])
    with services.state.transaction() as session:
        incident.resolve(session, number, who, services.clock())
    services.wake()
    return f"/incidents/{number}"


def run_runbook(services: Services, params: Params, form: dict[str, str], who: str) -> str:
    """Asks for one more run of a runbook's read-only steps; the investigation takes it from there."""
    book, now_us = find(services, params.path["id"]), services.clock()
    with services.state.transaction() as session:
        entry = AuditEntry(
            at=now_us, who=who, action="runbook.run", subject=book.id, detail={"sha256": book.sha256}
        )
        session.add(entry)
        session.flush()
        session.add(
            RunbookRun(
                runbook=book.id,
                phase="manual",
                status="pending",
                created_at=now_us,
                as_of=now_us,
                labels={},
                inputs={},
                causes=[],
                reason="",
                requested_by=who,
            )
        )
    services.wake()
    return f"/runbooks/{book.id}#last-run"


def test_channel(services: Services, params: Params, form: dict[str, str], who: str) -> str:
    """Sends a message marked TEST to one channel, now."""
    name = required(form, "channel", 100)
    if name not in services.settings.notify.channels:
        raise BadRequest("there is no channel of this name: choose one that the page lists")
    with services.state.transaction() as session:
        session.add(AuditEntry(at=services.clock(), who=who, action="notify.test", subject=name, detail={}))
    services.test_channel(name)
    return "/deliveries"


POSTS = (
    Post("/incidents/{id}/acknowledge", acknowledge),
    Post("/incidents/{id}/note", add_note),
    Post("/incidents/{id}/resolve", resolve),
    Post("/runbooks/{id}/run", run_runbook),
    Post("/deliveries/test", test_channel),
)
