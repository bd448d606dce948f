"""Why an alert was what it was at one instant: numbers against thresholds, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from histories import ALERTS, SECOND, Event, at, connect, every, requests
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy.orm import Session

from tocsin_server.backtest import backtest
from tocsin_server.clock import iso
from tocsin_server.errors import TocsinError
from tocsin_server.evaluate import State as Instance
from tocsin_server.query import labels_of
from tocsin_server.rules import Catalogue, load_catalogue
from tocsin_server.state import State
from tocsin_server.state.tables import (
    AlertState,
    AlertTransition,
    DeliveryAttempt,
    EvaluatorProgress,
    Incident,
    IncidentAlert,
    Notification,
    NotificationGroup,
    Silence,
    labels_key,
)
from tocsin_server.summary import explained_text
from tocsin_server.why import explain
from tocsin_server.why.measures import measure

CATALOGUE = load_catalogue([ALERTS])
CORE = {"environment": "production", "service": "k12-core"}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    state = State.in_folder(tmp_path)
    with state.transaction() as opened:
        yield opened
    state.close()


def why(
    session: Session, events: Iterable[Event], alert: str, t: float, catalogue: Catalogue = CATALOGUE
) -> dict[str, Any]:
    with connect(events) as connection:
        return explain(connection, session, catalogue, alert, round(t * SECOND))


def only(explained: dict[str, Any]) -> dict[str, Any]:
    (instance,) = explained["instances"]
    assert isinstance(instance, dict)
    return instance


def mixed(bad: int, good: int) -> list[Event]:
    return [*requests(bad, status=500), *({**event, "t": event["t"] + 0.5} for event in requests(good))]


# --- numbers against thresholds -------------------------------------------------------------------------

LOGINS = [*at([610] * 17, "auth.login", status="failure"), *at([611] * 83, "auth.login", status="success")]
QUEUES = [
    *every(30, 600, 900, "job.queue", queue="default", depth=60),
    *every(30, 600, 900, "job.queue", queue="sync", depth=40),
]
DISK = list(every(60, 600, 900, "db.disk", volume="pg", used_bytes=799, capacity_bytes=1000))
CHECKS = [
    *at([600], "health.check", target="ai-gateway", status="success"),
    *at([630, 655], "health.check", target="ai-gateway", status="failure"),
]
SYNCS = [event for n in range(4) for event in at([610 + n], "sync.run", status="error", run_id=f"r{n}")]
SLOW = [*requests(19, duration_ms=2000.0), *requests(3, duration_ms=2001.0)]

NUMBERS = [
    (mixed(6, 94), "HighErrorRate", 660, "true", "6.0 % of 100 `api.request` are 5xx responses (6)", ""),
    (mixed(5, 95), "HighErrorRate", 660, "false", "5.0 % of 100", "1 more such events would do"),
    (mixed(3, 9), "HighErrorRate", 660, "false", "25.0 % of 12", "too few: it needs 20, saw 12"),
    (mixed(4, 16), "HighErrorRate", 660, "false", "20.0 % of 20", "too few: it needs 5 such events, saw 4"),
    (SLOW, "SlowResponses", 660, "true", "13.64 % of 22 `api.request` have duration_ms > 2000 (3)", ""),
    (LOGINS, "AuthFailures", 660, "false", "17 failed logins in 5m (17.0 % of 100", "4 more would do"),
    (SYNCS, "SyncFailures", 660, "false", "4 sync errors in 1h", "2 more would do"),
    (QUEUES, "JobQueueDepth", 660, "false", "100 pending jobs in 2 queues", "exactly at the threshold"),
    (DISK, "DiskUsage", 660, "false", "79.9 % database disk (799 of 1,000)", "0.1 % below"),
    (CHECKS, "AIGatewayDown", 660, "false", "2 of the last 3 `health.check` failed", "1 did not fail"),
    (CHECKS[:2], "AIGatewayDown", 660, "false", "2 `health.check` within 150s", "too few: it needs 3, saw 2"),
]


@pytest.mark.parametrize(
    ("events", "alert", "t", "truth", "measured", "missing"),
    NUMBERS,
    ids=[f"{c[1]}: {c[4]}" for c in NUMBERS],
)
def test_the_numbers_against_the_threshold(
    session: Session, events: list[Event], alert: str, t: float, truth: str, measured: str, missing: str
) -> None:
    instance = only(why(session, events, alert, t))
    assert instance["truth"] == truth
    assert measured in instance["measured"]
    assert instance["missing"] == missing
    assert "needed" in instance["needed"] or "must fail" in instance["needed"]


def test_the_rule_is_said_in_words_and_exactly(session: Session) -> None:
    explained = why(session, mixed(6, 94), "HighErrorRate", 665)
    assert explained["at"] == "1970-01-01T00:11:00Z", "rounded down to an evaluation"
    assert explained["condition"] == "> 5% 5xx responses in 5 min"
    assert "http_status >= 500" in explained["exactly"]
    assert explained["minimum"] == "≥ 20 events, ≥ 5 bad"


def test_an_unknown_alert_is_named_with_the_nearest(session: Session) -> None:
    with pytest.raises(TocsinError, match="did you mean `HighErrorRate`"):
        why(session, [], "HighErorRate", 600)


# --- nothing, and not knowing ---------------------------------------------------------------------------


def test_nothing_matched_and_there_never_was_an_event(session: Session) -> None:
    explained = why(session, requests(5), "DiskUsage", 660)
    assert explained["instances"] == []
    assert "no `db.disk` was ever seen" in explained["nothing"]


def test_nothing_matched_says_when_the_newest_came(session: Session) -> None:
    explained = why(session, DISK, "DiskUsage", 20_000)
    assert "the newest one came at 1970-01-01T00:14:00Z" in explained["nothing"]


def test_unknown_names_the_service_that_fell_silent(session: Session) -> None:
    beats = every(60, 0, 600, "log.heartbeat")
    instance = only(why(session, [*beats, *requests(30, start=301)], "HighErrorRate", 900))
    assert instance["truth"] == "unknown"
    assert instance["truth_since"] == iso(720 * SECOND)
    assert "nothing was heard from k12-core since 1970-01-01T00:09:00Z" in instance["story"][0]


def test_unknown_names_the_newest_sample(session: Session) -> None:
    events = [*QUEUES, *requests(1, start=1500)]
    instance = only(why(session, events, "JobQueueDepth", 990))
    assert instance["truth"] == "unknown"
    assert "the newest came at 1970-01-01T00:14:30Z" in instance["unknown_because"]


def test_unknown_for_lack_of_history(session: Session) -> None:
    for instance in why(session, requests(1), "JobMissing", 660)["instances"]:
        assert instance["truth"] == "unknown"
        assert "there is less than 36h of history" in instance["unknown_because"]


def test_a_query_that_fails_is_said(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "alerts:\n  - alert: Broken\n    severity: info\n    by: [service]\n"
        "    when: {sql: {query: 'SELECT service, CAST(name AS INTEGER) AS value FROM events'}}\n"
    )
    explained = why(session, requests(1), "Broken", 660, load_catalogue([path]))
    assert explained["error"].startswith("the rule's query failed")
    assert explained["instances"] == []


# --- states ---------------------------------------------------------------------------------------------


def test_without_a_server_the_state_machine_says_what_it_would_have_been(session: Session) -> None:
    events = list(every(1, 600, 1500, "api.request", http_status=200, duration_ms=3000.0))
    pending = only(why(session, events, "SlowResponses", 780))
    assert (pending["state"], pending["pending_since"], pending["fires_at"]) == (
        "pending",
        iso(630 * SECOND),
        iso(930 * SECOND),
    )
    firing = only(why(session, events, "SlowResponses", 960))
    assert (firing["state"], firing["firing_since"]) == ("firing", iso(930 * SECOND))


@pytest.mark.parametrize("t", range(600, 2400, 90))
def test_it_agrees_with_the_backtest_at_every_instant(session: Session, t: int) -> None:
    events = list(every(1, 600, 1500, "api.request", http_status=200, duration_ms=3000.0))
    rules = [rule for rule in CATALOGUE.rules if rule.alert == "SlowResponses"]
    with connect(events) as connection:
        (episode,) = backtest(connection, rules).episodes
        explained = explain(connection, session, CATALOGUE, "SlowResponses", t * SECOND)
    end = episode.resolved_at or 0
    firing = episode.fired_at <= t * SECOND < end
    states = [one["state"] for one in explained["instances"]]
    assert ("firing" in states) == firing


def test_keep_firing_says_when_it_ends(session: Session) -> None:
    events = [*mixed(20, 20), *every(5, 640, 2000, "api.request", http_status=200, duration_ms=1.0)]
    instance = only(why(session, events, "HighErrorRate", 960))
    assert (instance["state"], instance["truth"]) == ("firing", "false")
    assert instance["resolves_at"] == iso(1050 * SECOND)


def test_what_the_server_stored_counts(session: Session) -> None:
    """It started late, so that its pending clock did too."""
    instance = Instance("SlowResponses", labels_of(CORE), 750 * SECOND, 750 * SECOND)
    row = {**instance.as_row(), "labels": CORE, "labels_key": labels_key(CORE)}
    session.add(AlertState(**row))
    session.add(EvaluatorProgress(id=1, last_at=960 * SECOND))
    session.flush()
    events = list(every(1, 600, 1500, "api.request", http_status=200, duration_ms=3000.0))
    stored = only(why(session, events, "SlowResponses", 960))
    assert (stored["state"], stored["fires_at"]) == ("pending", iso(1050 * SECOND))


# --- what became of it ----------------------------------------------------------------------------------


def fired(session: Session, alert: str = "HighErrorRate", t: int = 660, **extra: Any) -> None:
    """A running server evaluated, and this alert fired."""
    times = {"pending_at": t * SECOND, "fired_at": t * SECOND, "value": 0.5}
    named = {"alert": alert, "labels": CORE, "labels_key": labels_key(CORE)}
    if session.get(EvaluatorProgress, 1) is None:
        session.add(EvaluatorProgress(id=1, last_at=690 * SECOND))
    session.add(AlertState(**named, **times, active_at=t * SECOND))
    session.add(
        AlertTransition(**named, **times, at=t * SECOND, evaluated_at=t * SECOND, to="firing", **extra)
    )
    session.flush()


def opened(session: Session, alert: str = "HighErrorRate", t: int = 660) -> int:
    incident = Incident(
        title="High Error Rate", severity="critical", environment="production", status="open", opened_at=t
    )
    session.add(incident)
    session.flush()
    session.add(
        IncidentAlert(
            incident_id=incident.id,
            alert=alert,
            labels=CORE,
            labels_key=labels_key(CORE),
            severity="critical",
            pending_at=t * SECOND,
            fired_at=t * SECOND,
        )
    )
    session.flush()
    return incident.id


def notification(session: Session, incident: int | None, status: str, answer: str, **times: Any) -> None:
    row = Notification(
        key=f"{status}-{answer}",
        channel="oncall",
        group_key="k",
        incident_id=incident,
        reason="first",
        body={},
        status=status,
        created_at=661 * SECOND,
        attempts=1,
        **times,
    )
    session.add(row)
    session.flush()
    outcome = {"delivered": "accepted", "dead": "refused"}.get(status, "retry")
    session.add(
        DeliveryAttempt(
            notification_id=row.id,
            number=1,
            started_at=662 * SECOND,
            duration_ms=3.0,
            outcome=outcome,
            answer=answer,
        )
    )
    session.flush()


TOLD = [
    ("delivered", "200", {"delivered_at": 662 * SECOND}, "oncall was told at 1970-01-01T00:11:02Z (first"),
    ("dead", "404 Not Found", {}, "oncall refused it for good (attempt 1): it answered 404 Not Found"),
    ("pending", "503", {"next_try_at": 700 * SECOND}, "next at 1970-01-01T00:11:40Z): it answered 503"),
]


@pytest.mark.parametrize(("status", "answer", "times", "said"), TOLD, ids=[one[0] for one in TOLD])
def test_who_was_told_and_what_they_answered(
    session: Session, status: str, answer: str, times: dict[str, int], said: str
) -> None:
    fired(session)
    incident = opened(session)
    notification(session, incident, status, answer, **times)
    instance = only(why(session, mixed(20, 20), "HighErrorRate", 690))
    assert instance["incident"] == incident
    assert said in " | ".join(instance["story"])
    assert [change["to"] for change in instance["transitions"]] == ["firing"]


def test_a_group_that_waits(session: Session) -> None:
    fired(session)
    member = {"alert": "HighErrorRate", "labels": CORE}
    session.add(
        NotificationGroup(
            channel="oncall", group_key="k", labels={}, members=[member], sent=[], due_at=700 * SECOND
        )
    )
    session.flush()
    instance = only(why(session, mixed(20, 20), "HighErrorRate", 690))
    assert "oncall will be told at 1970-01-01T00:11:40Z" in instance["story"]


def test_nobody_was_told(session: Session) -> None:
    fired(session)
    story = only(why(session, mixed(20, 20), "HighErrorRate", 690))["story"]
    assert story[-1].startswith("nobody was told: no route leads severity critical")


def test_inhibited_by_what(session: Session) -> None:
    slow = list(every(1, 300, 700, "api.request", http_status=500, duration_ms=3000.0))
    fired(session)
    fired(session, "SlowResponses")
    instance = only(why(session, slow, "SlowResponses", 690))
    assert instance["inhibited_by"] == [{"alert": "HighErrorRate", "labels": CORE}]
    assert any("not sent while HighErrorRate fires" in sentence for sentence in instance["story"])


def test_silenced_by_whom_until_when(session: Session) -> None:
    fired(session)
    matcher = {"name": "alertname", "operator": "=", "value": "HighErrorRate"}
    session.add(
        Silence(
            matchers=[matcher],
            starts_at=0,
            ends_at=7200 * SECOND,
            author="ana",
            comment="planned work",
            created_at=0,
        )
    )
    session.flush()
    story = only(why(session, mixed(20, 20), "HighErrorRate", 690))["story"]
    assert "silenced by ana until 1970-01-01T02:00:00Z (silence 1): planned work" in story


def test_drills_are_no_part_of_it(session: Session) -> None:
    fired(session, drill="d-1")
    instance = only(why(session, mixed(20, 20), "HighErrorRate", 690))
    assert instance["transitions"] == []


# --- in the terminal ------------------------------------------------------------------------------------


def text_of(explained: dict[str, Any]) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(explained_text(explained))
    return capture.get()


def test_the_terminal_shows_the_whole_story(session: Session) -> None:
    text = text_of(why(session, mixed(6, 94), "HighErrorRate", 660))
    assert "HighErrorRate" in text
    assert "> 5% 5xx responses in 5 min" in text
    assert "service=k12-core" in text
    assert "6.0 % of 100" in text


def test_the_terminal_shows_hostile_labels_escaped(session: Session) -> None:
    hostile = "core\x1b[31m\u202e[/bold]"
    events = [{**event, "service": hostile} for event in mixed(6, 94)]
    text = text_of(why(session, events, "HighErrorRate", 660))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[/bold]" in text


# --- what is missing, as a property ---------------------------------------------------------------------

COUNTS = st.integers(0, 30) | st.integers(0, 3000)
#: Alert -> (its numbers, whether they fire it), from two counts.
DECIDED: dict[str, Callable[[int, int], tuple[dict[str, int], bool]]] = {
    "HighErrorRate": lambda a, b: (
        {"total": a + b, "bad": a},
        a + b >= 20 and a >= 5 and 100 * a > 5 * (a + b),
    ),
    "SlowResponses": lambda a, b: ({"total": a + b, "bad": a}, a + b >= 20 and 100 * a > 5 * (a + b)),
    "AuthFailures": lambda a, b: ({"total": a + b, "count": a}, a > 20),
    "SyncFailures": lambda a, _: ({"count": a}, a > 5),
    "JobQueueDepth": lambda a, b: ({"sum": a, "reported": 1 + b % 3}, a > 100),
    "DiskUsage": lambda a, b: ({"of": a, "to": a + b + 1}, 100 * a > 80 * (a + b + 1)),
    "AIGatewayDown": lambda a, b: ({"failed": min(a, b, 3), "results": b}, b >= 3 and a >= 3),
}


@given(st.sampled_from(sorted(DECIDED)), COUNTS, COUNTS)
def test_something_is_missing_exactly_when_it_does_not_fire(alert: str, a: int, b: int) -> None:
    numbers, fires = DECIDED[alert](a, b)
    (rule,) = [rule for rule in CATALOGUE.rules if rule.alert == alert]
    assert (measure(rule, numbers).missing == "") == fires
