"""A drill walks the real steps: incident, runbook, webhook, resolve; nothing of it enters the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from drilled import START_US, catalogue, shipped
from sqlalchemy import select

from tocsin_server import incident
from tocsin_server.clock import SECOND_US
from tocsin_server.config import Settings
from tocsin_server.drill import drill
from tocsin_server.drill.run import Connect, Step, end_unfinished, fault_of
from tocsin_server.errors import TocsinError
from tocsin_server.investigate import Investigator
from tocsin_server.notify.outbox import Notifier
from tocsin_server.notify.receivers import WebhookReceiver
from tocsin_server.runbook.run import Tools
from tocsin_server.state import State
from tocsin_server.state.tables import AlertTransition, Incident, RunbookRun

NOW_US = START_US + 17 * SECOND_US


class Clock:
    """A clock that goes on only when somebody waits, and then by five seconds."""

    def __init__(self) -> None:
        self.now = NOW_US

    def __call__(self) -> int:
        return self.now

    def wait(self, _seconds: float) -> None:
        self.now += 5 * SECOND_US


@contextmanager
def installation(folder: Path, *urls: str) -> Iterator[tuple[State, Any, Clock]]:
    """(state, flow, clock) with a webhook channel for each address."""
    channels = {f"hook{number}": {"webhook": {"url": url}} for number, url in enumerate(urls)}
    notify = {"channels": channels, "routes": [{"to": list(channels)}] if channels else []}
    settings = Settings.model_validate({"notify": notify})
    clock, state = Clock(), State.in_folder(folder)
    notifier = Notifier(state, settings, clock, rules=lambda: catalogue().rules)

    def flow(connect: Connect, marker: str) -> Sequence[Step]:
        investigator = Investigator(state, shipped, Tools(connect), clock, drill=marker)

        def tell(now_us: int) -> None:
            notifier.step(now_us)
            notifier.drain()

        return (
            lambda now: incident.step(state, catalogue(), settings.notify.routes, now),
            investigator.step,
            tell,
        )

    try:
        yield state, flow, clock
    finally:
        notifier.close()
        state.close()


@pytest.mark.parametrize("alert", ["HighErrorRate", "AuthFailures", "SyncFailures"])
def test_a_drill_fires_finds_the_cause_tells_and_resolves(alert: str, tmp_path: Path) -> None:
    with WebhookReceiver() as receiver, installation(tmp_path, receiver.url) as (state, flow, clock):
        report = drill(alert, catalogue().rules, state, flow, clock, clock.wait)
        assert report["problems"] == []
        assert report["ok"]
        assert report["cause"] == fault_of(alert).cause
        assert report["evidence_steps"] >= 4
        assert report["notified"] == ["hook0"]
        assert report["resolved"]
        first = receiver.accepted[0].body
        assert "DRILL" in str(first)
        assert {label["environment"] for label in _labels(state)} == {"drill"}


def _labels(state: State) -> list[dict[str, str]]:
    with state.reading() as session:
        return [row.labels for row in session.scalars(select(AlertTransition)).all()]


def test_everything_that_a_drill_writes_is_marked(tmp_path: Path) -> None:
    with WebhookReceiver() as receiver, installation(tmp_path, receiver.url) as (state, flow, clock):
        report = drill("AIGatewayDown", catalogue().rules, state, flow, clock, clock.wait)
        with state.reading() as session:
            transitions = session.scalars(select(AlertTransition)).all()
            incidents = session.scalars(select(Incident)).all()
            runs = session.scalars(select(RunbookRun)).all()
        assert [row.to for row in transitions] == ["firing", "resolved"]
        assert {row.drill for row in (*transitions, *incidents)} == {report["drill"]}
        assert {(run.phase, run.status) for run in runs} == {("fire", "done"), ("resolve", "done")}


def test_without_a_channel_a_drill_says_that_nobody_was_told(tmp_path: Path) -> None:
    with installation(tmp_path) as (state, flow, clock):
        report = drill("AuthThrottled", catalogue().rules, state, flow, clock, clock.wait)
        assert not report["ok"]
        assert len(report["problems"]) == 1
        assert report["problems"][0].startswith("nobody was told: add a channel")
        assert report["cause"] == "school-throttled"


def test_a_rule_that_does_not_fire_is_a_problem(tmp_path: Path) -> None:
    deaf = [rule.model_copy(update={"for_us": 7200 * SECOND_US}) for rule in catalogue().rules]
    with installation(tmp_path) as (state, flow, clock):
        report = drill("SlowResponses", deaf, state, flow, clock, clock.wait)
    assert report["fired_at"] is None
    assert report["problems"][0].startswith("SlowResponses did not fire")


def test_an_alert_without_a_fault_or_a_rule_is_refused(tmp_path: Path) -> None:
    with installation(tmp_path) as (state, flow, clock):
        with pytest.raises(TocsinError, match="no drill makes Watchdog fire; there are drills for"):
            drill("Watchdog", catalogue().rules, state, flow, clock)
        with pytest.raises(TocsinError, match="there is no alert HighErrorRate"):
            drill("HighErrorRate", [], state, flow, clock)


def test_a_drill_that_was_cut_off_is_resolved(tmp_path: Path) -> None:
    """Else people would be told of it every few hours, for ever."""
    with installation(tmp_path) as (state, flow, clock):

        def cut_off(connect: Connect, marker: str) -> Sequence[Step]:
            def broken(_now_us: int) -> None:
                raise OSError("the disk is full")

            return flow(connect, marker)[0], broken

        with pytest.raises(OSError, match="the disk is full"):
            drill("HighErrorRate", catalogue().rules, state, cut_off, clock, clock.wait)
        assert incident.step(state, catalogue(), (), clock.now) == 1
        with state.reading() as session:
            assert session.scalars(select(Incident.status)).all() == ["resolved"]


def test_E1_a_drill_of_a_process_that_ended_is_resolved_at_the_next_start(tmp_path: Path) -> None:
    with installation(tmp_path) as (state, _flow, clock):
        with state.transaction() as session:
            session.add(
                AlertTransition(
                    at=NOW_US,
                    evaluated_at=NOW_US,
                    alert="HighErrorRate",
                    labels_key="{}",
                    labels={},
                    to="firing",
                    pending_at=NOW_US,
                    fired_at=NOW_US,
                    drill="drill-of-yesterday",
                )
            )
        assert end_unfinished(state, clock.now) == 1
        assert end_unfinished(state, clock.now) == 0
        incident.step(state, catalogue(), (), clock.now)
        with state.reading() as session:
            assert session.scalars(select(Incident.status)).all() == ["resolved"]
