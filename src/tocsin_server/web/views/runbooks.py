"""Runbooks: what to do, who keeps it, how old its review is, and what its steps found last time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.runbook.model import Runbook, Step
from tocsin_server.state.tables import Evidence, RunbookRun
from tocsin_server.web.params import NotFound, Params
from tocsin_server.web.services import Services
from tocsin_server.web.wording import lasting

_DAY_US = 86_400 * SECOND_US


def runbooks(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/runbooks``."""
    now_us = services.clock()
    with services.state.reading() as session:
        rows = [_row(session, one, now_us) for one in services.runbooks().values()]
    return {
        "now": iso(now_us),
        "runbooks": sorted(rows, key=lambda row: row["title"]),
        "faults": [str(fault) for fault in services.faults()],
    }


def runbook(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/runbooks/ID``."""
    book, now_us = find(services, params.path["id"]), services.clock()
    with services.state.reading() as session:
        run = last_run(session, book.id)
        answers = {row.step: row for row in evidence_of(session, run)} if run else {}
        return {
            "now": iso(now_us),
            **_row(session, book, now_us),
            "sections": dict(book.sections),
            "steps": [_step(step, book, services, answers.get(step.id)) for step in book.steps],
            "causes": [
                {
                    "anchor": cause.anchor,
                    "title": cause.title,
                    "text": cause.text,
                    "actions": list(cause.actions),
                }
                for cause in book.causes
            ],
            "findings": [
                {
                    "step": one.step,
                    "condition": one.condition.text if one.condition else "otherwise",
                    "strength": one.strength,
                    "cause": one.cause,
                    "text": one.text,
                }
                for one in book.findings
            ],
            "run": run_row(run, answers) if run else None,
            "causes_found": [{"runbook": "", **cause} for cause in run.causes] if run else [],
        }


def find(services: Services, runbook_id: str) -> Runbook:
    """A loaded runbook by its id; the id is only ever looked up, never a path (row I18). NotFound."""
    book = services.runbooks().get(runbook_id)
    if book is None:
        raise NotFound("there is no runbook of this id: the runbooks page lists them")
    return book


def last_run(session: Session, runbook_id: str) -> RunbookRun | None:
    """The newest run of a runbook, whatever started it."""
    newest = (
        select(RunbookRun).where(RunbookRun.runbook == runbook_id).order_by(RunbookRun.id.desc()).limit(1)
    )
    return session.scalars(newest).first()


def evidence_of(session: Session, run: RunbookRun) -> list[Evidence]:
    """What the steps of a run found, in their order."""
    found = select(Evidence).where(Evidence.run_id == run.id).order_by(Evidence.ordinal)
    return list(session.scalars(found))


def run_row(run: RunbookRun, answers: Mapping[str, Evidence]) -> dict[str, Any]:
    """One run without its evidence."""
    return {
        "id": run.id,
        "phase": run.phase,
        "status": run.status,
        "reason": run.reason,
        "incident": run.incident_id,
        "created_at": iso(run.created_at),
        "finished_at": None if run.finished_at is None else iso(run.finished_at),
        "requested_by": run.requested_by,
        "causes": run.causes,
        "answered": sum(one.status == "ok" for one in answers.values()),
    }


def evidence_row(one: Evidence) -> dict[str, Any]:
    """What one step found, as it is kept."""
    return {
        "step": one.step,
        "title": one.title,
        "kind": one.kind,
        "connection": one.connection,
        "target": one.target,
        "rendered": one.rendered,
        "parameters": one.parameters,
        "status": one.status,
        "reason": one.reason,
        "started_at": None if one.started_at is None else iso(one.started_at),
        "duration_ms": one.duration_ms,
        "columns": one.columns,
        "rows": one.rows,
        "http": one.http,
        "truncated": one.truncated,
        "redactions": one.redactions,
        "findings": one.findings,
        "sha256": one.sha256,
    }


def _row(session: Session, book: Runbook, now_us: int) -> dict[str, Any]:
    run = last_run(session, book.id)
    return {
        "id": book.id,
        "title": book.title,
        "service": book.service,
        "owner": book.owner,
        "escalation": book.escalation,
        "alerts": list(book.alerts),
        "file": book.file,
        "sha256": book.sha256,
        **_review(book, now_us),
        "last_run_at": iso(run.created_at) if run else None,
        "last_run_status": run.status if run else None,
        "last_run_incident": run.incident_id if run else None,
    }


def _review(book: Runbook, now_us: int) -> dict[str, Any]:
    try:
        reviewed = datetime.combine(date.fromisoformat(book.last_reviewed), datetime.min.time(), UTC)
    except ValueError:
        return {"last_reviewed": book.last_reviewed, "review_age": "unknown", "review_overdue": True}
    age_us = now_us - int(reviewed.timestamp()) * SECOND_US
    return {
        "last_reviewed": book.last_reviewed,
        "review_age": lasting(age_us // _DAY_US * _DAY_US) if age_us >= _DAY_US else "today",
        "review_overdue": age_us > book.review_every_us,
    }


def _step(step: Step, book: Runbook, services: Services, answer: Evidence | None) -> dict[str, Any]:
    return {
        "id": step.id,
        "title": step.title,
        "section": step.section,
        "kind": step.kind,
        "connection": step.connection,
        "body": step.body,
        "run": step.run,
        "reads": not step.writes,
        "expect": step.expect,
        "risk": step.risk,
        "connected": step.connection == "events" or step.connection in services.settings.connections,
        "answer": evidence_row(answer) if answer else None,
    }
