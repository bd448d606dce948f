"""Live evaluation: the rules from one instant to the next, as the events arrive.

An instant T is evaluated at T + 3 s, when the events up to T have been delivered. After downtime the missed
instants are evaluated in order, at most one hour back, so that live evaluation finds the episodes of a
backtest of the same events. States, transitions, failures and progress of a step are one transaction: after a
crash the step happens again, or has happened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import duckdb
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tocsin_server import evaluate
from tocsin_server.clock import SECOND_US
from tocsin_server.evaluate import Advance, RuleError, States, Transition
from tocsin_server.query import STEP_US, Grid, Labels, labels_of
from tocsin_server.rules import Catalogue, Rule
from tocsin_server.rules.readings import Memory, Reading, Truth
from tocsin_server.state import State
from tocsin_server.state.tables import (
    AlertState,
    AlertTransition,
    EvaluatorProgress,
    RuleFailure,
    labels_key,
)

#: How long after an instant it is evaluated: what is later counts at the next one.
INGEST_DELAY_US = 3 * SECOND_US
#: A rule that takes longer fails: it must not make the others late.
RULE_SECONDS = 5.0
#: The clock was set back when the last instant lies this far in its future.
SET_BACK_US = 2 * STEP_US
#: Fires when a rule's query has failed for 5 min: the alerting says itself what it cannot see.
RULE_EVALUATION_FAILING = Rule.model_validate(
    {
        "alert": "RuleEvaluationFailing",
        "title": "Rule Evaluation Failing",
        "severity": "warning",
        "action": "Correct the rule: its query fails, and its alerts stay as they were",
        "when": {"always": {}},
        "for": "5m",
        "by": ["rule"],
        "meta": True,
    }
)

Connect = Callable[[int | None], AbstractContextManager[duckdb.DuckDBPyConnection]]


@dataclass(frozen=True, slots=True)
class _Due:
    """What a step has to do: the instants, from which states, and the last instant before them."""

    last_us: int | None
    grid: Grid
    before: States


class Evaluator:
    """Evaluates all rules at every instant that is due; :meth:`step` is called when :meth:`next_at` says so.

    ``catalogue`` gives the rules as they are now. ``connect`` gives a connection whose ``events`` holds at
    least the events since a time (µs), for None all. ``expect`` names services whose silence is an alert.
    ``start_at`` is the first instant ever (default: the newest one at the first step).
    """

    def __init__(
        self,
        state: State,
        catalogue: Callable[[], Catalogue],
        connect: Connect,
        expect: Sequence[str] = (),
        start_at: int | None = None,
    ) -> None:
        self._state = state
        self._catalogue = catalogue
        self._connect = connect
        self._expect = expect
        self._start_at = start_at
        self._memory = Memory(lambda: connect(None))
        self._last_us: int | None = None

    def next_at(self, now_us: int) -> int:
        """When the next instant is due (µs): now, or later."""
        if self._last_us is None or _set_back(self._last_us, now_us):
            return now_us
        return max(now_us, self._last_us + STEP_US + INGEST_DELAY_US)

    def step(self, now_us: int) -> int:
        """Evaluates the instants that are due, in order; returns how many. Raises duckdb.Error when the
        events cannot be opened; nothing is written then, and the same instants are due again."""
        due = self._due(now_us)
        self._last_us = due.last_us
        if not len(due.grid):
            return 0
        rules = self._catalogue().rules
        mine = {key: state for key, state in due.before.items() if key[0] == RULE_EVALUATION_FAILING.alert}
        others = {key: state for key, state in due.before.items() if key not in mine}
        with self._connect(evaluate.read_from(rules, due.grid.from_us)) as connection:
            result = evaluate.advance(
                connection, rules, others, due.grid, self._expect, self._memory, RULE_SECONDS
            )
        _judge_failures(result, mine, due.grid.to_us)
        return self._write(due, result, now_us)

    def _due(self, now_us: int) -> _Due:
        with self._state.reading() as session:
            last, states = last_instant(session), _states(session)
        if last is not None and _set_back(last, now_us):
            firing = evaluate.without_pending(states)
            fresh = {key: replace(state, keep_since=None) for key, state in firing.items()}
            return _Due(last, evaluate.due(None, now_us - INGEST_DELAY_US)[0], fresh)
        after = last
        if last is None and self._start_at is not None:
            after = (self._start_at // STEP_US - 1) * STEP_US
        grid, skipped = evaluate.due(after, now_us - INGEST_DELAY_US)
        return _Due(last, grid, evaluate.without_pending(states) if skipped else states)

    def _write(self, due: _Due, result: Advance, now_us: int) -> int:
        with self._state.transaction() as session:
            if last_instant(session) != due.last_us:
                return 0  # another process was faster
            _write_states(session, result.states)
            _write_failures(session, result.errors, due.grid.to_us)
            session.add_all(_transition_rows(result.transitions, due.before, now_us))
            session.merge(EvaluatorProgress(id=1, last_at=due.grid.to_us))
        self._last_us = due.grid.to_us
        return len(due.grid)


def last_instant(session: Session) -> int | None:
    """The last instant that every rule was evaluated at (µs); None: never."""
    progress = session.get(EvaluatorProgress, 1)
    return None if progress is None else progress.last_at


def superseded(transitions: Sequence[Transition], firing: Collection[tuple[str, Labels]]) -> list[bool]:
    """For each transition of one step whether a later one of the same instance undid it.

    Of what people are told (firing, resolved) only the last counts, and a resolve only for an instance that
    was ``firing`` before the step: what fired and resolved while Tocsin was down is nobody's page.
    """
    last = {(t.alert, t.labels): index for index, t in enumerate(transitions)}
    told = {(t.alert, t.labels): i for i, t in enumerate(transitions) if t.to in ("firing", "resolved")}
    return [
        index < told[t.alert, t.labels] or (t.to == "resolved" and (t.alert, t.labels) not in firing)
        if t.to in ("firing", "resolved")
        else index < last[t.alert, t.labels]
        for index, t in enumerate(transitions)
    ]


# --- pure parts -----------------------------------------------------------------------------------------


def _set_back(last_us: int, now_us: int) -> bool:
    return last_us - (now_us - INGEST_DELAY_US) > SET_BACK_US


def _judge_failures(result: Advance, states: States, at_us: int) -> None:
    """Adds to ``result`` what :data:`RULE_EVALUATION_FAILING` says at the last instant of the step."""
    failed = {(RULE_EVALUATION_FAILING.alert, (("rule", error.alert),)) for error in result.errors}
    for key in sorted(failed | states.keys()):
        truth = Truth.TRUE if key in failed else Truth.FALSE
        reading, state = Reading(truth, truth), states.get(key)
        state, transition = evaluate.evaluate(RULE_EVALUATION_FAILING, key[1], at_us, reading, state)
        if state is not None:
            result.states[key] = state
        if transition is not None:
            result.transitions.append(transition)


def _transition_rows(
    transitions: Sequence[Transition], before: States, now_us: int
) -> Iterable[AlertTransition]:
    firing = {key for key, state in before.items() if state.fired_at is not None}
    for transition, undone in zip(transitions, superseded(transitions, firing), strict=True):
        row = transition.as_row()
        key = labels_key(row["labels"])
        yield AlertTransition(**row, labels_key=key, evaluated_at=now_us, superseded=undone)


# --- rows -----------------------------------------------------------------------------------------------


def _states(session: Session) -> States:
    found = {}
    for row in session.scalars(select(AlertState)):
        state = evaluate.State(
            alert=row.alert,
            labels=labels_of(row.labels),
            pending_at=row.pending_at,
            active_at=row.active_at,
            fired_at=row.fired_at,
            keep_since=row.keep_since,
            value=row.value,
        )
        found[state.alert, state.labels] = state
    return found


def _write_states(session: Session, states: Mapping[tuple[str, Labels], evaluate.State]) -> None:
    """Makes the table equal to ``states``; rows that did not change are not written."""
    rows = [state.as_row() for state in states.values()]
    new = {(row["alert"], labels_key(row["labels"])): row for row in rows}
    for old in session.scalars(select(AlertState)):
        row = new.pop((old.alert, old.labels_key), None)
        if row is None:
            session.delete(old)
            continue
        for name, value in row.items():
            setattr(old, name, value)
    session.add_all(AlertState(**row, labels_key=key) for (_, key), row in new.items())


def _write_failures(session: Session, errors: Sequence[RuleError], at_us: int) -> None:
    failed = {error.alert: error for error in errors}
    session.execute(delete(RuleFailure).where(RuleFailure.alert.not_in(failed)))
    for alert, error in failed.items():
        row = session.get(RuleFailure, alert) or RuleFailure(alert=alert, since=at_us)
        row.message = " ".join(error.message.split())
        session.add(row)
