"""Live evaluation: the episodes of a backtest, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from histories import ALERTS, SECOND, Event, at, connect, every, requests, rules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tocsin_server.backtest import backtest
from tocsin_server.evaluate import Transition
from tocsin_server.live import INGEST_DELAY_US, Evaluator, superseded
from tocsin_server.query import STEP_US
from tocsin_server.rules import Catalogue, Rule, load_rules
from tocsin_server.state import State
from tocsin_server.state.tables import AlertState, AlertTransition, EvaluatorProgress, RuleFailure


class Events:
    """A history whose connections hold only the events since the time that was asked for."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.all = connect(events)
        self.all.execute("CREATE TABLE history AS FROM events")
        self.asked: list[int | None] = []

    @contextmanager
    def since(self, since_us: int | None) -> Iterator[duckdb.DuckDBPyConnection]:
        self.asked.append(since_us)
        with self.all.cursor() as recent:
            recent.execute(f"CREATE TEMP VIEW events AS FROM history WHERE epoch_us(ts) > {since_us or 0:d}")
            yield recent


class Install:
    """One installation: a state folder, events, and an evaluator that can be restarted."""

    def __init__(self, folder: Path, events: Iterable[Event], chosen: list[Rule], start: float) -> None:
        self.folder, self.events, self.rules = folder, Events(events), chosen
        self.start_at = round(start * SECOND)
        self.state = State.in_folder(folder)
        self.evaluator = self._evaluator()

    def _evaluator(self) -> Evaluator:
        catalogue = lambda: Catalogue(self.rules, [])  # noqa: E731
        return Evaluator(self.state, catalogue, self.events.since, start_at=self.start_at)

    def restart(self) -> None:
        self.state.close()
        self.state = State.in_folder(self.folder)
        self.evaluator = self._evaluator()

    def step(self, t: float) -> int:
        """The step that runs when instant ``t`` (seconds) is due."""
        return self.evaluator.step(round(t * SECOND) + INGEST_DELAY_US)

    def rows(self, table: type[Any]) -> list[Any]:
        with self.state.reading() as session:
            found = list(session.scalars(select(table)))
            session.expunge_all()
            return found

    def changes(self) -> list[tuple[str, float, bool]]:
        return [(row.to, row.at / SECOND, row.superseded) for row in self.rows(AlertTransition)]

    def close(self) -> None:
        self.state.close()
        self.events.all.close()


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Any]:
    made: list[Install] = []

    def make(events: Iterable[Event], *alerts: str, start: float = 600) -> Install:
        made.append(Install(tmp_path, events, rules(*alerts), start))
        return made[-1]

    yield make
    for one in made:
        one.close()


FAILURES = list(every(1, 601, 901, "auth.login", status="failure"))


# --- one step -------------------------------------------------------------------------------------------


def test_states_transitions_and_progress_are_written_together(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    assert one.step(600) == 1
    assert one.step(630) == 1
    (state,) = one.rows(AlertState)
    assert (state.alert, state.labels, state.fired_at) == (
        "AuthFailures",
        {"environment": "production"},
        630 * SECOND,
    )
    (row,) = one.rows(AlertTransition)
    assert (row.to, row.at, row.evaluated_at, row.value, row.drill) == (
        "firing",
        630 * SECOND,
        633 * SECOND,
        30,
        "",
    )
    assert one.rows(EvaluatorProgress)[0].last_at == 630 * SECOND


def test_an_instant_is_due_three_seconds_after_it(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    now = 602 * SECOND
    assert one.evaluator.next_at(now) == now
    one.step(600)
    assert one.evaluator.next_at(now) == 633 * SECOND
    assert one.evaluator.step(632 * SECOND) == 0
    assert one.evaluator.step(633 * SECOND) == 1


def test_a_first_start_begins_at_the_newest_instant(tmp_path: Path) -> None:
    one = Install(tmp_path, FAILURES, rules("AuthFailures"), 0)
    one.evaluator = Evaluator(one.state, lambda: Catalogue(one.rules, []), one.events.since)
    assert one.step(7000) == 1
    one.close()


def test_a_second_evaluator_changes_nothing(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    one.step(600)

    @contextmanager
    def overtaken(since_us: int | None) -> Iterator[duckdb.DuckDBPyConnection]:
        with one.events.since(since_us) as connection:
            yield connection
        with one.state.transaction() as session:
            session.merge(EvaluatorProgress(id=1, last_at=630 * SECOND))

    slow = Evaluator(one.state, lambda: Catalogue(one.rules, []), overtaken)
    assert slow.step(633 * SECOND) == 0
    assert one.rows(AlertTransition) == []


def test_nothing_is_written_when_the_events_cannot_be_opened(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    one.step(600)

    @contextmanager
    def broken(_since_us: int | None) -> Iterator[duckdb.DuckDBPyConnection]:
        raise duckdb.IOException("no such file")
        yield

    failing = Evaluator(one.state, lambda: Catalogue(one.rules, []), broken)
    with pytest.raises(duckdb.IOException):
        failing.step(633 * SECOND)
    assert one.rows(EvaluatorProgress)[0].last_at == 600 * SECOND
    assert one.step(630) == 1


# --- downtime -------------------------------------------------------------------------------------------


def test_E12_missed_instants_are_evaluated_once_in_order(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    one.step(600)
    one.restart()
    assert one.step(780) == 6
    assert one.step(780) == 0
    assert one.changes() == [("firing", 630, False)]


def test_what_fired_and_resolved_while_down_is_recorded_not_acted_on(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    one.step(600)
    one.step(2400)
    assert one.changes() == [("firing", 630, True), ("resolved", 1500, True)]


def test_E4_a_resolve_while_down_is_acted_on_once(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    one.step(600)
    one.step(630)
    one.restart()
    one.step(2400)
    assert one.changes() == [("firing", 630, False), ("resolved", 1500, False)]


def test_E4_unchanged_conditions_give_no_transition(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    one.step(600)
    one.step(660)
    before = one.changes()
    one.restart()
    one.step(840)
    assert one.changes() == before


def test_E5_for_goes_on_over_a_restart(install: Any) -> None:
    full = every(30, 600, 2000, "db.disk", volume="a", used_bytes=90, capacity_bytes=100)
    one = install(full, "DiskUsage")
    one.step(600)
    one.step(690)
    one.restart()
    for t in range(870, 991, 30):
        one.step(t)
    assert one.changes() == [("pending", 600, False), ("firing", 900, False)]


def test_after_more_than_an_hour_pending_starts_again(install: Any) -> None:
    full = every(30, 600, 9000, "db.disk", volume="a", used_bytes=90, capacity_bytes=100)
    one = install(full, "DiskUsage")
    one.step(600)
    assert one.step(5400) == 121
    assert one.changes()[1:] == [("pending", 1800, True), ("firing", 2100, False)]


def test_E7_a_clock_set_back_stops_nothing(install: Any) -> None:
    one = install(FAILURES, "AuthFailures", start=8000)
    one.step(8010)
    assert one.evaluator.next_at(640 * SECOND) == 640 * SECOND
    assert one.step(630) == 1
    assert one.changes() == [("firing", 630, False)]
    assert one.rows(EvaluatorProgress)[0].last_at == 630 * SECOND


@pytest.mark.parametrize(
    ("firing", "changes", "expected"),
    [
        (False, ["pending", "firing"], [True, False]),
        (False, ["firing", "resolved"], [True, True]),
        (False, ["firing", "resolved", "firing"], [True, True, False]),
        (True, ["resolved"], [False]),
        (True, ["resolved", "pending"], [False, False]),
        (True, ["resolved", "firing"], [True, False]),
        (True, ["resolved", "firing", "resolved"], [True, True, False]),
        (False, ["pending", "inactive"], [True, False]),
    ],
)
def test_superseded(firing: bool, changes: list[Any], expected: list[bool]) -> None:
    labels = (("service", "core"),)
    found = [Transition(i, "X", labels, to, 0, None, None) for i, to in enumerate(changes)]
    other = Transition(9, "X", (("service", "web"),), "firing", 0, None, None)
    assert superseded([*found, other], {("X", labels)} if firing else set()) == [*expected, False]


# --- the same as a backtest -----------------------------------------------------------------------------

WATCHED = ("HighErrorRate", "JobQueueDepth", "AuthFailures", "LogsMissing", "SignalMissing")
MINUTE = st.integers(0, 150)


def _bursts(name: str, n: int, **fields: Any) -> st.SearchStrategy[list[Event]]:
    def burst(minutes: list[int]) -> list[Event]:
        times = (600 + 60 * minute + i for minute in minutes for i in range(n))
        return list(at(times, name, **fields))

    return st.lists(MINUTE, max_size=6).map(burst)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    events = draw(_bursts("auth.login", 21, status="failure"))
    events += draw(_bursts("api.request", 25, http_status=500))
    events += every(60, 600, 600 + 60 * draw(MINUTE), "log.heartbeat")
    for start, end in zip(
        draw(st.lists(MINUTE, max_size=3)), draw(st.lists(MINUTE, max_size=3)), strict=False
    ):
        events += every(30, 600 + 60 * start, 600 + 60 * end, "job.queue", queue="default", depth=101)
    events += requests(1)
    return [{**event, "event_id": f"e:{i}"} for i, event in enumerate(sorted(events, key=lambda e: e["t"]))]


def _episodes(rows: list[Any]) -> list[tuple[Any, ...]]:
    open_: dict[Any, tuple[Any, ...]] = {}
    ended = []
    for row in rows:
        if row.to == "firing":
            open_[row.alert, row.labels_key] = (
                row.alert,
                tuple(row.labels.items()),
                row.pending_at,
                row.fired_at,
                row.value,
            )
        elif row.to == "resolved":
            ended.append((*open_.pop((row.alert, row.labels_key)), row.at))
    return sorted([*ended, *((*episode, None) for episode in open_.values())], key=str)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.lists(st.tuples(st.integers(1, 100), st.booleans()), min_size=2, max_size=9))
def test_E12_live_with_restarts_finds_the_episodes_of_a_backtest(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], steps: list[tuple[int, bool]]
) -> None:
    one = Install(tmp_path_factory.mktemp("live"), events, rules(*WATCHED), 600)
    t = 600
    one.step(t)
    for instants, restarted in steps:
        if restarted:
            one.restart()
        t += 30 * instants
        one.step(t)
    expected = backtest(one.events.all, one.rules, from_us=600 * SECOND, to_us=t * SECOND, include_meta=True)
    found = _episodes(one.rows(AlertTransition))
    one.close()
    assert found == sorted(
        ((e.alert, e.labels, e.pending_at, e.fired_at, e.value, e.resolved_at) for e in expected.episodes),
        key=str,
    )


def test_live_reads_the_whole_history_once_and_then_what_can_matter(install: Any) -> None:
    beats = list(at([10], "log.heartbeat"))
    one = install([*beats, *every(30, 600, 700, "log.heartbeat")], "LogsMissing", "AuthFailures")
    one.step(600)
    whole = one.events.asked.count(None)
    one.step(630)
    assert whole > 0
    assert one.events.asked.count(None) == whole
    assert one.events.asked[-1] <= (630 - 25 * 3600) * SECOND


def test_a_promise_older_than_what_is_read_is_remembered(install: Any) -> None:
    late = 40 * 3600
    events = [*at([600], "log.heartbeat"), *every(30, late - 300, late, "api.request", http_status=200)]
    one = install(events, "LogsMissing", start=late)
    one.step(late)
    one.step(late + 240)
    assert [to for to, *_ in one.changes()] == ["firing"]


# --- rules that fail ------------------------------------------------------------------------------------

POISONED = """
alerts:
  - alert: Poisoned
    severity: critical
    when:
      sql:
        query: SELECT service, error(message) AS value FROM events WHERE name = 'poison' AND ts <= :now
    by: [service]
"""


@pytest.fixture
def poisoned(tmp_path: Path) -> Rule:
    path = tmp_path / "poisoned.yaml"
    path.write_text(POISONED.replace("error(message)", "CAST(message AS INTEGER) > 0"))
    return load_rules([path])[0]


def test_E8_a_rule_that_fails_is_told_after_five_minutes(install: Any, poisoned: Rule) -> None:
    one = install([*FAILURES, *at([610], "poison", message="x")], "AuthFailures")
    one.rules.append(poisoned)
    for t in range(600, 991, 30):
        one.step(t)
    (failure,) = one.rows(RuleFailure)
    assert (failure.alert, failure.since) == ("Poisoned", 630 * SECOND)
    assert "Could not convert" in failure.message
    told = [row for row in one.rows(AlertTransition) if row.alert == "RuleEvaluationFailing"]
    assert [(row.to, row.at, row.labels) for row in told] == [
        ("pending", 630 * SECOND, {"rule": "Poisoned"}),
        ("firing", 930 * SECOND, {"rule": "Poisoned"}),
    ]
    assert [row.to for row in one.rows(AlertTransition) if row.alert == "AuthFailures"] == ["firing"]
    one.rules.pop()
    one.step(1020)
    assert one.rows(RuleFailure) == []
    assert one.changes()[-1] == ("resolved", 1020, False)


ENDLESS = """
alerts:
  - alert: Endless
    severity: critical
    when:
      sql:
        query: |
          SELECT a.service, sum(a.duration_ms * b.duration_ms * c.duration_ms) > 0 AS value
          FROM events AS a, events AS b, events AS c WHERE a.ts <= :now GROUP BY a.service
    by: [service]
"""


def test_E8_a_rule_that_takes_too_long_makes_no_other_late(
    install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_server.live.RULE_SECONDS", 0.2)
    one = install([*every(0.01, 560, 600, "api.request", duration_ms=1.5), *FAILURES], "AuthFailures")
    path = tmp_path / "endless.yaml"
    path.write_text(ENDLESS)
    one.rules.insert(0, load_rules([path])[0])
    one.step(630)
    assert [row.message for row in one.rows(RuleFailure)] == ["its query took too long and was stopped"]
    assert [row.alert for row in one.rows(AlertTransition) if row.to == "firing"] == ["AuthFailures"]


def test_instances_of_removed_rules_resolve(install: Any) -> None:
    one = install(FAILURES, "AuthFailures")
    one.step(630)
    one.rules.clear()
    one.step(660)
    assert one.changes() == [("firing", 630, False), ("resolved", 660, False)]
    assert one.rows(AlertState) == []


def test_the_whole_catalogue_runs_on_an_empty_store(install: Any) -> None:
    one = install([], *(rule.alert for rule in load_rules([ALERTS])))
    assert one.step(600) == 1
    assert one.step(600 + 3 * STEP_US // SECOND) == 3
    assert [row.alert for row in one.rows(AlertTransition)] == ["Watchdog"]
