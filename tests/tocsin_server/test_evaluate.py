"""The state machine row by row, catching up, options of rules, silence."""

from __future__ import annotations

import json

import pytest
from histories import SECOND, at, catalogue, changes, connect, every, requests, rules, transitions
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.evaluate import OVERFLOW, State, advance, due, evaluate, without_pending
from tocsin_server.query import STEP_US, Grid
from tocsin_server.rules import load_rules
from tocsin_server.rules.readings import Reading, Truth

LABELS = (("service", "core"),)
TRUE, FALSE, UNKNOWN = (Reading(truth, truth, 1) for truth in (Truth.TRUE, Truth.FALSE, Truth.UNKNOWN))
LETTERS = {"T": TRUE, "F": FALSE, "?": UNKNOWN}


def rule(for_: int = 0, keep: int = 0):
    """A rule with ``for`` and ``keep_firing_for`` in steps."""
    return rules("AuthFailures")[0].model_copy(update={"for_us": for_ * STEP_US, "keep_us": keep * STEP_US})


def walk(pattern: str, for_: int = 0, keep: int = 0) -> list[tuple[int, str]]:
    """(instant, new state) for a row of T, F and ?."""
    state, found = None, []
    for i, letter in enumerate(pattern):
        state, transition = evaluate(rule(for_, keep), LABELS, i * STEP_US, LETTERS[letter], state)
        if transition:
            found.append((i, transition.to))
    return found


MACHINE = {
    "for 0 fires in the same evaluation": ("FTF", 0, 0, [(1, "firing"), (2, "resolved")]),
    "inactive stays on FALSE and UNKNOWN": ("F?F", 0, 0, []),
    "pending fires after for": ("TTTT", 2, 0, [(0, "pending"), (2, "firing")]),
    "one FALSE resets pending": (
        "TTFTTT",
        2,
        0,
        [(0, "pending"), (2, "inactive"), (3, "pending"), (5, "firing")],
    ),
    "UNKNOWN freezes pending": ("T??TTT", 2, 0, [(0, "pending"), (4, "firing")]),
    "firing keeps on UNKNOWN": ("T???F", 0, 0, [(0, "firing"), (4, "resolved")]),
    "keep counts from the first FALSE": ("TFFF", 0, 2, [(0, "firing"), (3, "resolved")]),
    "TRUE clears keep": ("TFFTFFF", 0, 3, [(0, "firing")]),
    "UNKNOWN does not freeze keep": ("TF??F", 0, 3, [(0, "firing"), (4, "resolved")]),
    "keep does not apply to pending": (
        "TFTF",
        5,
        5,
        [(0, "pending"), (1, "inactive"), (2, "pending"), (3, "inactive")],
    ),
    "a new TRUE starts a new instance": ("TFT", 0, 0, [(0, "firing"), (1, "resolved"), (2, "firing")]),
}


@pytest.mark.parametrize(("pattern", "for_", "keep", "expected"), MACHINE.values(), ids=MACHINE)
def test_state_machine(pattern, for_, keep, expected):
    assert walk(pattern, for_, keep) == expected


@given(st.text("TF?", max_size=40), st.integers(0, 4), st.integers(0, 4))
def test_transitions_alternate(pattern, for_, keep):
    follows = {None: {"pending", "firing"}, "pending": {"firing", "inactive"}, "firing": {"resolved"}}
    state = None
    for _, to in walk(pattern, for_, keep):
        assert to in follows[state]
        state = None if to in ("resolved", "inactive") else to


def test_states_are_plain_rows():
    state = State("X", LABELS, 1, 2, fired_at=3, keep_since=4, value=0.5)
    assert State.from_row(json.loads(json.dumps(state.as_row()))) == state


# --- instants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "now", "instants", "skipped"),
    [
        (None, 1000, [990], False),
        (960, 1000, [990], False),
        (990, 1000, [], False),
        (900, 1000, [930, 960, 990], False),
        (990, 4590, [1020, 4590], False),
        (990, 4650, [1050, 4650], True),
    ],
)
def test_due(last, now, instants, skipped):
    grid, was_skipped = due(None if last is None else last * SECOND, now * SECOND)
    found = [t // SECOND for t in grid.instants().tolist()]
    assert (found if len(found) < 9 else [found[0], found[-1]]) == instants
    assert was_skipped is skipped


def test_pending_starts_again_after_skipped_instants():
    pending, firing = State("X", LABELS, 1, 1), State("Y", LABELS, 1, 1, fired_at=1)
    states = {("X", LABELS): pending, ("Y", LABELS): firing}
    assert without_pending(states) == {("Y", LABELS): firing}


def test_an_empty_grid_changes_nothing():
    states = {("X", LABELS): State("X", LABELS, 1, 1)}
    result = advance(connect(), catalogue(), states, Grid(60 * SECOND, 30 * SECOND))
    assert (result.states, result.transitions) == (states, [])


# --- rules that change, fail or overflow ----------------------------------------------------------------


def test_instances_of_removed_rules_and_other_labels_are_resolved():
    gone = State("Gone", LABELS, 0, 0, fired_at=0)
    relabelled = State("AuthFailures", (("tenant", "7"),), 0, 0, fired_at=0)
    states = {(state.alert, state.labels): state for state in (gone, relabelled)}
    result = advance(connect(), rules("AuthFailures"), states, Grid(600 * SECOND, 600 * SECOND))
    assert result.states == {}
    assert [(t.alert, t.to) for t in result.transitions] == [
        ("Gone", "resolved"),
        ("AuthFailures", "resolved"),
    ]


BROKEN = """
alerts:
  - alert: Broken
    severity: warning
    when: {sql: {query: "SELECT CAST(name AS INTEGER) > 0 AS value FROM events WHERE ts <= :now"}}
    by: []
"""


@pytest.mark.parametrize("bar", ["E8"])
def test_a_rule_that_fails_does_not_touch_the_others(bar, tmp_path):
    (tmp_path / "broken.yaml").write_text(BROKEN)
    broken = load_rules([tmp_path])
    connection = connect(requests(30, status=500))
    before = {("Broken", ()): State("Broken", (), 0, 0, fired_at=0)}
    result = advance(connection, [*broken, *rules("HighErrorRate")], before, Grid(600 * SECOND, 660 * SECOND))
    assert [(error.alert, "Could not convert" in error.message) for error in result.errors] == [
        ("Broken", True)
    ]
    assert [(t.alert, t.to) for t in result.transitions] == [("HighErrorRate", "firing")]
    assert result.states["Broken", ()] == before["Broken", ()]


def test_instances_above_the_limit_become_one():
    limited = rules("HighErrorRate")[0].model_copy(update={"limit": 2})
    history = [event for name in "abcde" for event in requests(30, status=500, service=name)]
    result = advance(connect(history), [limited], {}, Grid(600 * SECOND, 1200 * SECOND))
    fired = [t for t in result.transitions if t.to == "firing"]
    assert [dict(t.labels).get("service", "overflow") for t in fired] == ["a", "b", "overflow"]
    assert (fired[-1].labels, fired[-1].value) == (OVERFLOW, 3)
    assert {t.to for t in result.transitions if t.labels == OVERFLOW} == {"firing", "resolved"}


def test_resolve_threshold_keeps_a_firing_alert():
    sticky = rules("JobQueueDepth")[0].model_copy(update={"for_us": 0, "keep_us": 0, "resolve_threshold": 80})
    depths = [90, 101, 90, 81, 80, 90]
    history = [
        event for i, d in enumerate(depths) for event in at([600 + 30 * i], "job.queue", queue="a", depth=d)
    ]
    result = advance(connect(history), [sticky], {}, Grid(600 * SECOND, 750 * SECOND))
    assert [(t.to, t.at // SECOND) for t in result.transitions] == [("firing", 630), ("resolved", 720)]


COUNTING = """
alerts:
  - alert: Busy
    severity: info
    when:
      sql:
        query: |
          SELECT service, count(*) AS value FROM events
          WHERE ts > :now - INTERVAL 1 MINUTE AND ts <= :now GROUP BY service
        above: 5
    by: [service]
"""


def test_sql_rule(tmp_path):
    (tmp_path / "busy.yaml").write_text(COUNTING)
    result = advance(connect(requests(6)), load_rules([tmp_path]), {}, Grid(600 * SECOND, 720 * SECOND))
    assert [(t.to, t.at // SECOND, t.value) for t in result.transitions] == [
        ("firing", 630, 6.0),
        ("resolved", 690, 6.0),
    ]


# --- silence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bar", ["E9"])
def test_logs_missing_after_three_minutes_and_forgotten_after_a_day(bar):
    history = [*every(60, 600, 1200, "log.heartbeat"), *at([600], "log", service="quiet")]
    end = 1140 + 86_400 + 120
    found = changes(history, "LogsMissing", end=end)
    assert found == [("firing", 1140 + 180), ("resolved", 1140 + 86_400)]


def test_an_expected_service_that_never_spoke_is_missing():
    connection = connect(every(10, 600, 1200, "log"))
    result = advance(
        connection, rules("LogsMissing"), {}, Grid(600 * SECOND, 1200 * SECOND), expect=["gateway"]
    )
    assert [(dict(t.labels), t.to, t.at // SECOND, t.value) for t in result.transitions] == [
        ({"service": "gateway"}, "firing", 780, None)
    ]


def test_a_firing_alert_of_a_service_unseen_for_a_day_resolves():
    history = [*requests(30, status=500), *at([600], "log.heartbeat")]
    last = 601 + 28 * 29 / 30
    (fired, resolved) = transitions(history, "HighErrorRate", end=last + 90_000)
    assert fired.at == 630 * SECOND
    assert resolved.at // SECOND == 630 + 86_400 + 120


def test_environment_rules_are_unknown_only_when_every_promising_sender_is_silent():
    failing = [*at([601 + i for i in range(6)], "sync.run", status="error", run_id=None)]
    beats = at([600], "log.heartbeat")
    other = [*at([600], "sync.run", service="other"), *every(60, 600, 9000, "log.heartbeat", service="other")]
    assert changes([*failing, *beats], "SyncFailures", end=9000) == [("firing", 630)]
    assert changes([*failing, *beats, *other], "SyncFailures", end=9000) == [
        ("firing", 630),
        ("resolved", 4230),
    ]


def test_a_daily_job_is_missed_only_when_the_history_is_long_enough():
    hour = 3600
    other = every(hour, 600, 60 * hour, "job.completed", job_class="PdfExportJob", status="success")
    ran = at([5 * hour], "job.completed", job_class="DueDateReminderJob", status="success")
    found = transitions([*other, *ran], "JobMissing", end=45 * hour)
    assert [(dict(t.labels)["job"], t.at // SECOND) for t in found] == [
        ("NotificationDigestJob", 600 + 36 * hour),
        ("DueDateReminderJob", 41 * hour),
    ]
    assert transitions(requests(9), "JobMissing", end=45 * hour) == []


def test_watchdog_always_fires():
    assert changes(requests(1), "Watchdog", end=900) == [("firing", 600)]
