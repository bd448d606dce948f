"""Walks one alert through the real code on one's own installation: fire, evidence, notification, resolve.

The events of a drill never enter the installation's events. They are loaded into a temporary store, the real
rule is evaluated over them, and the transitions that come of it go into the real state, marked with the
drill's id. From there on everything is as in an emergency, with the real channels.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tocsin_server.backtest import Episode, backtest
from tocsin_server.clock import SECOND_US, Clock, frozen_clock, iso
from tocsin_server.drill.fault import Fault
from tocsin_server.drill.faults import FAULTS
from tocsin_server.errors import TocsinError
from tocsin_server.history import temporary_store
from tocsin_server.query import STEP_US
from tocsin_server.rules import Rule
from tocsin_server.sql import Limits, lock
from tocsin_server.state import State
from tocsin_server.state.tables import (
    AlertTransition,
    Evidence,
    Incident,
    Notification,
    NotificationGroup,
    RunbookRun,
    labels_key,
)
from tocsin_server.store import Store

#: Opens a locked connection over the drill's events, given the instant that is looked back from.
Connect = Callable[[int], AbstractContextManager[duckdb.DuckDBPyConnection]]
#: One step of the flow, given the time (µs): the incident step, the investigator's, the notifier's.
Step = Callable[[int], object]
#: (connection, marker) -> the steps of the flow. The investigator among them asks this connection for its
#: events, and takes only the runs of incidents with this marker.
Flow = Callable[[Connect, str], Sequence[Step]]

#: How long each half of a drill may take.
PATIENCE_US = 90 * SECOND_US
_PAUSE_S = 0.2
_SEED = 7


def drill(
    alert: str,
    rules: Sequence[Rule],
    state: State,
    flow: Flow,
    clock: Clock,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """``{"alert", "fault", "drill", "fired_at", "incident", "evidence_steps", "cause", "notified",
    "resolved", "seconds", "ok", "problems"}``: how far the alert came, and what went wrong on the way.

    ``ok``: it fired, the runbook named the fault's cause, somebody was told, and it was resolved. The fault
    lies in the past, so that it ends now. ``pause`` waits (seconds) between two rounds of the steps. Raises
    TocsinError when there is no such alert, or no fault that makes it fire.
    """
    fault = fault_of(alert)
    rule = next((rule for rule in rules if rule.alert == alert), None)
    if rule is None:
        raise TocsinError(f"there is no alert {alert}: `tocsin alerts` shows them")
    started_us, marker = clock(), f"drill-{secrets.token_hex(6)}"
    with played(fault, started_us, marker) as store:
        episode = _episode(store, rule, fault, started_us)
        if episode is not None:
            steps = flow(lambda _as_of_us: _locked(store), marker)
            walk = _Walk(state, marker, steps, clock, pause)
            try:
                for to, at_us in (("firing", episode.fired_at), ("resolved", episode.resolved_at)):
                    if at_us is not None:
                        walk.through(episode, to, at_us)
            finally:
                end_unfinished(state, clock(), marker)
    report = _report(state, marker, fault, episode)
    return {**report, "seconds": round((clock() - started_us) / SECOND_US, 3)}


def end_unfinished(state: State, now_us: int, marker: str | None = None) -> int:
    """Resolves what a drill left firing (default: all drills; at start-up none can be running): else people
    would be told of it again and again. Returns how many alerts that were.
    """
    of_drill = AlertTransition.drill != "" if marker is None else AlertTransition.drill == marker
    ended = select(AlertTransition.drill).where(of_drill, AlertTransition.to == "resolved")
    with state.transaction() as session:
        left = select(AlertTransition).where(of_drill, AlertTransition.to == "firing")
        rows = session.scalars(left.where(AlertTransition.drill.not_in(ended))).all()
        session.add_all(_resolved(row, now_us) for row in rows)
    return len(rows)


def _resolved(fired: AlertTransition, now_us: int) -> AlertTransition:
    return AlertTransition(
        at=now_us,
        evaluated_at=now_us,
        alert=fired.alert,
        labels_key=fired.labels_key,
        labels=fired.labels,
        to="resolved",
        pending_at=fired.pending_at,
        fired_at=fired.fired_at,
        value=fired.value,
        drill=fired.drill,
    )


def fault_of(alert: str) -> Fault:
    """The fault that drills ``alert``: its first one with a cause. Raises TocsinError when there is none."""
    fault = next((f for f in FAULTS.values() if f.alert == alert and f.cause), None)
    if fault is None:
        names = ", ".join(dict.fromkeys(f.alert for f in FAULTS.values()))
        raise TocsinError(f"no drill makes {alert} fire; there are drills for {names}")
    return fault


@contextmanager
def played(fault: Fault, until_us: int, marker: str) -> Iterator[Store]:
    """A temporary store with the events of a fault that was repaired and resolved by ``until_us``."""
    until_us = until_us // STEP_US * STEP_US
    with tempfile.NamedTemporaryFile(prefix="tocsin-drill-", suffix=".log") as file:
        file.writelines(fault.lines(until_us - fault.span_us, until_us, _SEED, drill=marker))
        file.flush()
        with temporary_store([Path(file.name)], frozen_clock(until_us)) as (store, _books):
            yield store


@contextmanager
def _locked(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    with store.connect(threads=1) as connection:
        lock(connection, [str(store.events)], Limits().memory_bytes, 1)
        yield connection


def _episode(store: Store, rule: Rule, fault: Fault, until_us: int) -> Episode | None:
    """The first time that the rule fires over the fault's events."""
    with store.connect(threads=1) as connection:
        episodes = backtest(connection, [rule], to_us=until_us // STEP_US * STEP_US).episodes
    return next((e for e in episodes if e.alert == fault.alert), None)


class _Walk:
    """One drill on its way: writes a transition, then lets the steps do their work until all is done."""

    def __init__(
        self, state: State, marker: str, steps: Sequence[Step], clock: Clock, pause: Callable[[float], None]
    ) -> None:
        self._state, self._marker, self._steps = state, marker, steps
        self._clock, self._pause = clock, pause

    def through(self, episode: Episode, to: str, at_us: int) -> None:
        with self._state.transaction() as session:
            session.add(_transition(episode, to, at_us, self._clock(), self._marker))
        deadline_us = self._clock() + PATIENCE_US
        while True:
            for step in self._steps:
                step(self._clock())
            with self._state.reading() as session:
                waiting = _waits(session, self._marker, deadline_us)
            if not waiting or self._clock() >= deadline_us:
                return
            self._pause(_PAUSE_S)


def _transition(episode: Episode, to: str, at_us: int, now_us: int, marker: str) -> AlertTransition:
    labels = dict(episode.labels)
    return AlertTransition(
        at=at_us,
        evaluated_at=now_us,
        alert=episode.alert,
        labels_key=labels_key(labels),
        labels=labels,
        to=to,
        pending_at=episode.pending_at,
        fired_at=episode.fired_at,
        value=episode.value,
        drill=marker,
    )


def _waits(session: Session, marker: str, deadline_us: int) -> bool:
    """Whether a step still has work of this drill before the deadline."""
    unfinished = (
        select(func.count())
        .select_from(AlertTransition)
        .where(AlertTransition.drill == marker, AlertTransition.handled_at.is_(None)),
        select(func.count())
        .select_from(RunbookRun)
        .join(Incident, Incident.id == RunbookRun.incident_id)
        .where(Incident.drill == marker, RunbookRun.status.in_(("pending", "running"))),
        select(func.count())
        .select_from(NotificationGroup)
        .where(NotificationGroup.drill == marker, NotificationGroup.due_at <= deadline_us),
        select(func.count())
        .select_from(Notification)
        .where(Notification.drill == marker, Notification.status.in_(("pending", "sending"))),
    )
    return any(session.scalar(question) for question in unfinished)


# --- the report -----------------------------------------------------------------------------------------


def _report(state: State, marker: str, fault: Fault, episode: Episode | None) -> dict[str, Any]:
    with state.reading() as session:
        incident = session.scalars(select(Incident).where(Incident.drill == marker)).first()
        runs = _runs(session, incident, fault.runbook)
        asked = select(Evidence.step).where(Evidence.run_id.in_(run.id for run in runs))
        answered = session.scalars(asked.where(Evidence.status == "ok")).all()
        told = session.scalars(select(Notification).where(Notification.drill == marker)).all()
    causes = [cause["cause"] for run in runs for cause in run.causes]
    report = {
        "alert": fault.alert,
        "fault": fault.name,
        "drill": marker,
        "fired_at": iso(episode.fired_at) if episode else None,
        "incident": incident.id if incident else None,
        "evidence_steps": len(answered),
        "cause": causes[0] if causes else None,
        "notified": sorted({n.channel for n in told if n.status == "delivered"}),
        "resolved": incident is not None and incident.status == "resolved",
    }
    problems = _problems(report, fault, {n.channel for n in told})
    return {**report, "ok": not problems, "problems": problems}


def _runs(session: Session, incident: Incident | None, runbook: str) -> Sequence[RunbookRun]:
    """The runs of the fault's runbook when the alert fired."""
    if incident is None:
        return ()
    mine = select(RunbookRun).where(RunbookRun.incident_id == incident.id, RunbookRun.phase == "fire")
    return session.scalars(mine.where(RunbookRun.runbook == runbook).order_by(RunbookRun.id)).all()


def _problems(report: dict[str, Any], fault: Fault, channels: set[str]) -> list[str]:
    """What a person should look at, in the order in which it happens."""
    if report["fired_at"] is None:
        return [
            f"{fault.alert} did not fire on the fault {fault.name}: compare its rule with the shipped one"
        ]
    if report["incident"] is None:
        return ["no incident was opened: `tocsin status` shows whether the incident step works"]
    undelivered = ", ".join(sorted(channels - set(report["notified"])))
    found = {
        f"no step of the runbook {fault.runbook} answered: `tocsin runbook list` shows whether it is there": (
            report["evidence_steps"] == 0
        ),
        f"the runbook names {report['cause'] or 'no cause'} instead of {fault.cause}": (
            report["cause"] != fault.cause
        ),
        "nobody was told: add a channel and a route under `notify` in tocsin.yaml": not channels,
        f"not delivered: {undelivered}; the delivery ledger says why": bool(undelivered),
        "the incident is not resolved": not report["resolved"],
    }
    return [problem for problem, holds in found.items() if holds]
