"""The alert state machine, and the step that takes all rules from one instant to the next.

:func:`evaluate` is pure: (rule, instant, reading, state) -> (state, transition). :func:`advance` reads the
conditions over a grid of instants with one range query per rule and walks the instants in order; live
evaluation is a grid of one instant, catching up after downtime a grid of several (:func:`due`), a backtest a
grid of days. States and transitions are plain rows, so that the caller can store them in one transaction.

The rows of the state machine follow Prometheus; UNKNOWN is ours: it changes nothing but freezes a pending
alert's clock. docs/alerts.md has the whole table.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import duckdb
import numpy as np

from tocsin_server.clock import SECOND_US
from tocsin_server.query import STEP_US, Grid, Labels, labels_of
from tocsin_server.rules import Rule
from tocsin_server.rules.readings import (
    LATE_US,
    SEEN_FOR_US,
    Memory,
    Presence,
    Reading,
    Readings,
    Source,
    Truth,
)

#: After downtime, instants older than this are skipped.
CATCH_UP_US = 3600 * SECOND_US
#: Labels of the one instance that stands for all instances above a rule's limit.
OVERFLOW: Labels = (("overflow", "true"),)
_MISSING = Reading(Truth.FALSE, Truth.FALSE)
_FAILED = Reading(Truth.UNKNOWN, Truth.UNKNOWN)


@dataclass(frozen=True, slots=True)
class State:
    """An alert instance: pending until ``fired_at`` is set, then firing. Times in microseconds, UTC."""

    alert: str
    labels: Labels
    #: First evaluation that was TRUE.
    pending_at: int
    #: Start of the pending clock: ``pending_at`` moved forward by the evaluations that were UNKNOWN.
    active_at: int
    fired_at: int | None = None
    #: First FALSE since the last TRUE while firing.
    keep_since: int | None = None
    #: The condition's value when it was last TRUE.
    value: float | int | None = None

    def as_row(self) -> dict[str, Any]:
        """Plain values for a database or JSON."""
        return {**asdict(self), "labels": dict(self.labels)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> State:
        """The state that :meth:`as_row` wrote."""
        return cls(**{**row, "labels": labels_of(row["labels"])})


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of an instance. ``inactive`` is a pending instance that ended without firing."""

    at: int
    alert: str
    labels: Labels
    to: Literal["pending", "firing", "resolved", "inactive"]
    pending_at: int
    fired_at: int | None
    value: float | int | None

    def as_row(self) -> dict[str, Any]:
        """Plain values for a database or JSON."""
        return {**asdict(self), "labels": dict(self.labels)}


#: (alert, labels) -> state: the identity of an instance, whatever the order of rules.
States = Mapping[tuple[str, Labels], State]


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule whose query failed: its instances kept their state from ``from_us`` to ``to_us``."""

    alert: str
    from_us: int
    to_us: int
    message: str


@dataclass(slots=True)
class Advance:
    """What an evaluation produced: the new states, the transitions in order, the rules that failed."""

    states: dict[tuple[str, Labels], State]
    transitions: list[Transition] = field(default_factory=list)
    errors: list[RuleError] = field(default_factory=list)


# --- one instance, one instant: pure --------------------------------------------------------------------


def evaluate(
    rule: Rule, labels: Labels, at_us: int, reading: Reading, state: State | None
) -> tuple[State | None, Transition | None]:
    """The state machine of one instance. No state means inactive."""
    if state is None:
        return _start(rule, labels, at_us, reading)
    if state.fired_at is None:
        return _pending(rule, at_us, reading, state)
    return _firing(rule, at_us, reading, state)


def _start(
    rule: Rule, labels: Labels, at_us: int, reading: Reading
) -> tuple[State | None, Transition | None]:
    if reading.truth is not Truth.TRUE:
        return None, None
    state = State(rule.alert, labels, pending_at=at_us, active_at=at_us, value=reading.value)
    return _fire(state, at_us) if rule.for_us == 0 else (state, _transition(state, at_us, "pending"))


def _pending(
    rule: Rule, at_us: int, reading: Reading, state: State
) -> tuple[State | None, Transition | None]:
    if reading.truth is Truth.UNKNOWN:
        return replace(state, active_at=state.active_at + STEP_US), None
    if reading.truth is Truth.FALSE:
        return None, _transition(state, at_us, "inactive")
    state = replace(state, value=reading.value)
    return _fire(state, at_us) if at_us - state.active_at >= rule.for_us else (state, None)


def _firing(rule: Rule, at_us: int, reading: Reading, state: State) -> tuple[State | None, Transition | None]:
    if reading.held is Truth.UNKNOWN:
        return state, None
    if reading.held is Truth.TRUE:
        return replace(state, keep_since=None, value=reading.value), None
    state = replace(state, keep_since=at_us if state.keep_since is None else state.keep_since)
    if at_us - (state.keep_since or 0) < rule.keep_us:
        return state, None
    return None, _transition(state, at_us, "resolved")


def _fire(state: State, at_us: int) -> tuple[State, Transition]:
    state = replace(state, fired_at=at_us)
    return state, _transition(state, at_us, "firing")


def _transition(
    state: State, at_us: int, to: Literal["pending", "firing", "resolved", "inactive"]
) -> Transition:
    return Transition(at_us, state.alert, state.labels, to, state.pending_at, state.fired_at, state.value)


# --- instants -------------------------------------------------------------------------------------------


def due(last_us: int | None, now_us: int) -> tuple[Grid, bool]:
    """The instants to evaluate now, in order, and whether older ones had to be skipped.

    ``last_us`` is the last instant that was evaluated (None: never). At most one hour is caught up. When
    instants were skipped, pending instances start again: pass the states through :func:`without_pending`.
    """
    newest = now_us // STEP_US * STEP_US
    oldest = newest - CATCH_UP_US
    first = newest if last_us is None else last_us + STEP_US
    return Grid(max(first, oldest), newest), first < oldest


def without_pending(states: States) -> dict[tuple[str, Labels], State]:
    """Only the firing instances."""
    return {key: state for key, state in states.items() if state.fired_at is not None}


def read_from(rules: Sequence[Rule], at_us: int) -> int | None:
    """The time (µs) after which events can matter to an evaluation at ``at_us``; None: all of them can."""
    lookbacks = [rule.condition.lookback_us for rule in rules]
    known = [lookback for lookback in lookbacks if lookback is not None]
    if len(known) < len(lookbacks):
        return None
    return at_us - max(LATE_US, SEEN_FOR_US + max(known, default=0))


# --- all rules over a grid of instants ------------------------------------------------------------------


def advance(
    connection: duckdb.DuckDBPyConnection,
    rules: Sequence[Rule],
    states: States,
    grid: Grid,
    expect: Sequence[str] = (),
    memory: Memory | None = None,
    seconds: float | None = None,
) -> Advance:
    """Evaluates every rule at every instant of ``grid``, in order, from ``states``.

    ``expect`` names services whose silence is an alert. A rule whose query fails is UNKNOWN over the grid and
    does not touch the others. Instances of rules that are gone, or that had other labels, are resolved at
    once. With a ``memory`` that lives from call to call the connection needs only the events after
    :func:`read_from`. A rule that takes longer than ``seconds`` fails, so that the others are on time.
    """
    result = Advance({})
    if not len(grid):
        result.states.update(states)
        return result
    presence = Presence(connection, grid, memory)
    for rule in rules:
        mine = {state.labels: state for state in states.values() if state.alert == rule.alert}
        kept = {labels: state for labels, state in mine.items() if _belongs(rule, labels)}
        known = frozenset(kept) - {OVERFLOW}
        source = Source(connection, grid, presence, known, tuple(expect))
        with _interrupted_after(connection, seconds):
            readings = _readings(rule, source, result.errors)
        after, transitions = _walk(rule, readings, kept, grid)
        result.states.update({(rule.alert, labels): state for labels, state in after.items()})
        result.transitions += transitions
    result.transitions += _orphans(rules, states, grid.from_us)
    result.transitions.sort(key=lambda transition: transition.at)
    return result


def _belongs(rule: Rule, labels: Labels) -> bool:
    return labels == OVERFLOW or {name for name, _ in labels} == rule.label_names


def _orphans(rules: Sequence[Rule], states: States, at_us: int) -> list[Transition]:
    by_name = {rule.alert: rule for rule in rules}
    orphans = [
        state
        for state in states.values()
        if state.alert not in by_name or not _belongs(by_name[state.alert], state.labels)
    ]
    return [
        _transition(state, at_us, "inactive" if state.fired_at is None else "resolved") for state in orphans
    ]


def _readings(rule: Rule, source: Source, errors: list[RuleError]) -> dict[Labels, Readings] | None:
    """The label sets that are TRUE somewhere or have a state; None when the query failed."""
    try:
        return {
            readings.labels: readings
            for readings in rule.condition.readings(source, rule.by, rule.resolve_threshold)
            if readings.labels in source.known or (readings.truth == Truth.TRUE).any()
        }
    except (duckdb.Error, ArithmeticError, LookupError, TypeError, ValueError) as error:
        stopped = isinstance(error, duckdb.InterruptException)
        message = "its query took too long and was stopped" if stopped else str(error)
        errors.append(RuleError(rule.alert, source.grid.from_us, source.grid.to_us, message))
        return None


@contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _walk(
    rule: Rule, readings: dict[Labels, Readings] | None, states: dict[Labels, State], grid: Grid
) -> tuple[dict[Labels, State], list[Transition]]:
    """Walks the instants at which something is TRUE or has a state."""
    states, transitions = dict(states), list[Transition]()
    starts = _starts(readings or {})
    for index in range(len(grid)):
        true = starts.get(index, ())
        if not states and not true:
            continue
        at_us = grid.from_us + index * grid.step_us
        for labels, reading in _readings_at(rule, readings, states, true, index).items():
            state, transition = evaluate(rule, labels, at_us, reading, states.pop(labels, None))
            if state is not None:
                states[labels] = state
            if transition is not None:
                transitions.append(transition)
    return states, sorted(transitions, key=lambda transition: (transition.at, transition.labels))


def _starts(readings: dict[Labels, Readings]) -> dict[int, list[Labels]]:
    """Instant -> the label sets that are TRUE, in the order of their labels."""
    starts: dict[int, list[Labels]] = {}
    for labels in sorted(readings):
        for index in np.flatnonzero(readings[labels].truth == Truth.TRUE).tolist():
            starts.setdefault(index, []).append(labels)
    return starts


def _readings_at(
    rule: Rule,
    readings: dict[Labels, Readings] | None,
    states: Mapping[Labels, State],
    true: Iterable[Labels],
    index: int,
) -> dict[Labels, Reading]:
    """What each instance reads at one instant; new ones above the rule's limit are counted as overflow."""
    if readings is None:
        return dict.fromkeys(states, _FAILED)
    new = [labels for labels in true if labels not in states]
    room = max(0, rule.limit - len(states.keys() - {OVERFLOW}))
    instances = (*(labels for labels in states if labels != OVERFLOW), *new[:room])
    at = {labels: readings[labels].at(index) if labels in readings else _MISSING for labels in instances}
    over = len(new[room:])
    if over:
        at[OVERFLOW] = Reading(Truth.TRUE, Truth.TRUE, over)
    elif OVERFLOW in states:
        at[OVERFLOW] = _MISSING
    return at
