"""Evidence before a human looks: takes the runbook runs that incidents asked for, and stores what they found.

A run is claimed in one transaction and stored in another: evidence, causes, timeline and impact appear
together or not at all. A run that the end of the process cut off is marked and never repeated by itself (row
O14 of the reliability bar): whatever it asked may be part of the trouble.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import duckdb
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tocsin_server.clock import Clock
from tocsin_server.errors import TocsinError
from tocsin_server.impact import MAX_TENANTS, MAX_USERS, Affected
from tocsin_server.runbook.evidence import causes, finding, record
from tocsin_server.runbook.inputs import check_given, resolve
from tocsin_server.runbook.model import Report, Runbook
from tocsin_server.runbook.run import Phase, Tools, chosen, execute
from tocsin_server.state import State
from tocsin_server.state.tables import (
    AuditEntry,
    Evidence,
    Incident,
    IncidentAlert,
    RunbookRun,
    TimelineEntry,
)

#: Runs at once: more would themselves be load on what is ill.
WORKERS = 2


#: (alert, labels, pending_at, until_us) -> whom the bad events of an instance concern: those that its first
#: instant counted and those since. None when the alert is unknown. May raise TocsinError or duckdb.Error.
Impact = Callable[[str, Mapping[str, str], int, int], Affected | None]


class Investigator:
    """The step of the flow between incident and notification.

    ``runbooks`` are those last loaded without faults, by id; ``affected`` says whom an alert concerns.
    ``drill`` is the marker of the drill whose runs it takes, empty for the real ones.
    """

    def __init__(
        self,
        state: State,
        runbooks: Callable[[], Mapping[str, Runbook]],
        tools: Tools,
        clock: Clock,
        affected: Impact | None = None,
        drill: str = "",
    ) -> None:
        self._drill = drill
        self._state = state
        self._runbooks = runbooks
        self._tools = tools
        self._clock = clock
        self._affected = affected

    def recover(self) -> int:
        """At start-up: runs of a process that ended become ``interrupted``. Returns how many."""
        with self._state.transaction() as session:
            runs = session.scalars(select(RunbookRun).where(RunbookRun.status == "running")).all()
            for run in runs:
                run.status, run.finished_at = "interrupted", self._clock()
                run.reason = "the process ended while it ran; it is not repeated by itself"
                _tell(session, run, "evidence", f"Runbook {run.runbook} was interrupted: {run.reason}")
        return len(runs)

    def step(self, now_us: int) -> int:
        """Executes the pending runs, oldest first, two at a time. Returns how many it finished."""
        pending = (
            select(RunbookRun.id)
            .outerjoin(Incident, Incident.id == RunbookRun.incident_id)
            .where(RunbookRun.status == "pending", func.coalesce(Incident.drill, "") == self._drill)
            .order_by(RunbookRun.id)
        )
        with self._state.reading() as session:
            ids = session.scalars(pending).all()
        if not ids:
            return 0
        with ThreadPoolExecutor(WORKERS, "investigate") as pool:
            return sum(pool.map(lambda run_id: self._investigate(run_id, now_us), ids))

    def run_manual(
        self,
        runbook_id: str,
        inputs: Mapping[str, str | int],
        requested_by: str,
        *,
        only: Collection[str] | None = None,
        incident_id: int | None = None,
        dry_run: bool = False,
    ) -> Report:
        """Runs a runbook because a person asked; kept like any other run. A dry run touches nothing.

        ``only`` names the steps (default: Investigation and Verification). Raises TocsinError when there is
        no such runbook, step or incident, or an input is wrong.
        """
        runbook = self._runbooks().get(runbook_id)
        if runbook is None:
            raise TocsinError(f"there is no runbook {runbook_id}: `tocsin runbook list` shows them")
        check_given(runbook.inputs, inputs)
        now = self._clock()
        if dry_run:
            values = resolve(runbook.inputs, inputs, {}, now)
            return execute(
                runbook,
                values,
                self._tools,
                self._clock,
                as_of_us=now,
                phase="manual",
                only=only,
                dry_run=True,
            )
        chosen(runbook, "manual", only)
        run = self._begin(runbook, inputs, requested_by, incident_id, now)
        with self._or_give_up(run.id):
            report = self._execute(run, runbook, only)
            self._store(run.id, runbook, report, {})
        return report

    def _begin(
        self,
        runbook: Runbook,
        inputs: Mapping[str, str | int],
        requested_by: str,
        incident_id: int | None,
        now: int,
    ) -> RunbookRun:
        with self._state.transaction() as session:
            if incident_id is not None and session.get(Incident, incident_id) is None:
                raise TocsinError(f"there is no incident {incident_id}: `tocsin incident list` shows them")
            session.add(
                AuditEntry(
                    at=now,
                    who=requested_by,
                    action="runbook.run",
                    subject=runbook.id,
                    detail={"inputs": dict(inputs), "incident": incident_id, "file_sha256": runbook.sha256},
                )
            )
            run = RunbookRun(
                incident_id=incident_id,
                runbook=runbook.id,
                phase="manual",
                status="running",
                created_at=now,
                started_at=now,
                as_of=now,
                labels={},
                inputs=dict(inputs),
                requested_by=requested_by,
            )
            session.add(run)
        return run

    def _investigate(self, run_id: int, now_us: int) -> int:
        run = self._claim(run_id, now_us)
        if run is None:
            return 0
        runbook = self._runbooks().get(run.runbook)
        if runbook is None:
            reason = (
                f"there is no runbook {run.runbook}: it was removed or has faults; run `tocsin runbook lint`"
            )
            self._give_up(run_id, reason)
            return 1
        with self._or_give_up(run_id):
            report = self._execute(run, runbook, None)
            self._store(run_id, runbook, report, self._impact(run))
        return 1

    def _claim(self, run_id: int, now_us: int) -> RunbookRun | None:
        with self._state.transaction() as session:
            run = session.get(RunbookRun, run_id)
            if run is None or run.status != "pending":
                return None
            run.status, run.started_at = "running", now_us
        return run

    def _execute(self, run: RunbookRun, runbook: Runbook, only: Collection[str] | None) -> Report:
        with self._state.reading() as session:
            incident = session.get(Incident, run.incident_id) if run.incident_id else None
            began = incident.opened_at if incident else run.as_of
        values = resolve(runbook.inputs, run.inputs, run.labels, began)
        phase = _phase(run.phase)
        return execute(runbook, values, self._tools, self._clock, as_of_us=run.as_of, phase=phase, only=only)

    @contextmanager
    def _or_give_up(self, run_id: int) -> Iterator[None]:
        """Whatever goes wrong in the block, the run does not stay ``running``."""
        try:
            yield
        except Exception as error:
            self._give_up(run_id, f"it failed: {error}")
            raise

    def _give_up(self, run_id: int, reason: str) -> None:
        with self._state.transaction() as session:
            run = session.get_one(RunbookRun, run_id)
            run.status, run.finished_at, run.reason = "done", self._clock(), reason
            _tell(session, run, "evidence", f"Runbook {run.runbook} found nothing: {reason}")

    def _store(self, run_id: int, runbook: Runbook, report: Report, impact: Mapping[str, Any]) -> None:
        """Evidence, causes, timeline and impact, in one transaction."""
        with self._state.transaction() as session:
            run = session.get_one(RunbookRun, run_id)
            run.status, run.finished_at = "done", self._clock()
            run.file_sha256, run.causes = report.file_sha256, causes(report)
            session.add_all(_evidence(run.id, runbook, report))
            _tell(session, run, "evidence", _summary(runbook, report, run.phase))
            if run.phase != "resolve":
                _tell(session, run, "cause", _verdict(runbook, report))
            incident = session.get(Incident, run.incident_id) if run.incident_id else None
            if incident is not None and impact:
                incident.tenants, incident.users = impact["tenants"], impact["users"]

    def _impact(self, run: RunbookRun) -> dict[str, Any]:
        """Whom the alerts of the run's incident concern, together; empty when that is not asked or known."""
        if self._affected is None or run.phase != "fire" or run.incident_id is None:
            return {}
        now = self._clock()
        of_incident = select(IncidentAlert).where(IncidentAlert.incident_id == run.incident_id)
        with self._state.reading() as session:
            questions = [
                (alert.alert, alert.labels, alert.pending_at, alert.resolved_at or now)
                for alert in session.scalars(of_incident)
            ]
        try:
            each = [self._affected(*question) for question in questions]
        except (TocsinError, duckdb.Error):  # the incident is worth more than its numbers
            return {}
        return together([one for one in each if one is not None])


def together(each: Sequence[Affected]) -> dict[str, Any]:
    """The affected of several alerts as an incident stores them. Ids that are not listed may overlap, so a
    count is the largest that is sure; ``approximate`` says why it is not exact.
    """
    if not each:
        return {}
    tenants = list(dict.fromkeys(tenant for one in each for tenant in one.tenants))
    users = list(dict.fromkeys(user for one in each for user in one.users))
    why = "; ".join(dict.fromkeys(one.approximate for one in each if one.approximate))
    said = {"approximate": why} if why else {}
    tenant_count = max(len(tenants), *(one.tenant_count for one in each))
    user_count = max(len(users), *(one.user_count for one in each))
    return {
        "tenants": {"ids": tenants[:MAX_TENANTS], "count": tenant_count, **said},
        "users": {"ids": users[:MAX_USERS], "count": user_count, **said},
    }


def _phase(text: str) -> Phase:
    return "resolve" if text == "resolve" else "manual" if text == "manual" else "fire"


def _evidence(run_id: int, runbook: Runbook, report: Report) -> Iterable[Evidence]:
    steps = {step.id: step for step in runbook.steps}
    for ordinal, answer in enumerate(report.answers.values()):
        step = steps[answer.step]
        yield Evidence(
            run_id=run_id,
            ordinal=ordinal,
            title=step.title,
            kind=step.kind,
            connection=step.connection,
            block_sha256=step.sha256,
            findings=[finding(v) for v in report.verdicts if v.finding.step == step.id],
            sha256=answer.sha256,
            **record(answer),
        )


def _tell(session: Session, run: RunbookRun, kind: str, text: str) -> None:
    if run.incident_id is not None:
        at = run.finished_at or run.created_at
        session.add(TimelineEntry(incident_id=run.incident_id, at=at, kind=kind, text=text))


def _summary(runbook: Runbook, report: Report, phase: str) -> str:
    counts = Counter(answer.status for answer in report.answers.values())
    rest = [
        f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items()) if status != "ok"
    ]
    answered = f"{counts['ok']} of {len(report.answers)} steps answered"
    when = {"fire": "at fire", "resolve": "at resolve"}.get(phase, "on request")
    seconds = f"{report.duration_ms / 1000:.1f} s"
    return f"{runbook.title}, {when}: {', '.join([answered, *rest])}, in {seconds}"


def _verdict(runbook: Runbook, report: Report) -> str:
    if not report.causes:
        return f"{runbook.title}: no cause stands out"
    best = report.causes[0]
    because = f" ({best.because[0]})" if best.because else ""
    return f"{best.strength.capitalize()} cause: {best.title}{because}"
