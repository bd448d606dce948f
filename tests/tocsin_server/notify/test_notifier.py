"""From a change to a receiver: what is told, when, in which order, and how often (rows E1 to E6, E11)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from notifying import (
    HOUR_US,
    LABELS,
    MINUTE_US,
    START_US,
    Bench,
    FakeClock,
    FakeSender,
    bench,
    change,
    fake_settings,
    settings,
    with_routes,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US
from tocsin_server.config import Channel
from tocsin_server.notify.groups import Change, channels_for, observe
from tocsin_server.notify.message import Delivery
from tocsin_server.notify.outbox import deliveries
from tocsin_server.notify.receivers import Reply, WebhookReceiver
from tocsin_server.notify.retry import DEAD_LETTER_US, Answer
from tocsin_server.state import State, silences
from tocsin_server.state.tables import Incident, Notification, RunbookRun, TimelineEntry


def ledger(at: Bench) -> list[dict[str, Any]]:
    with at.state.reading() as session:
        return deliveries(session, 1000)


def incident(at: Bench, **run: str) -> int:
    with at.state.transaction() as session:
        opened = Incident(
            title="High Error Rate: k12-core (production)",
            severity="critical",
            environment="production",
            status="open",
            opened_at=START_US,
        )
        session.add(opened)
        session.flush()
        session.add(
            RunbookRun(
                incident_id=opened.id,
                runbook="deployment-rollback",
                phase=run.get("phase", "fire"),
                status=run.get("status", "pending"),
                created_at=START_US,
                as_of=START_US,
                labels=LABELS,
                inputs={},
            )
        )
        return opened.id


# --- routes and timing ----------------------------------------------------------------------------------


def test_every_matching_route_once_per_channel() -> None:
    told = with_routes(
        fake_settings("a", "b", "c"),
        {"severity": "critical", "to": ["a", "b"]},
        {"to": ["b", "c"]},
        {"severity": "warning", "to": ["a"]},
    )
    assert channels_for(told.notify.routes, "critical") == ["a", "b", "c"]
    assert channels_for(told.notify.routes, "warning") == ["b", "c", "a"]
    assert channels_for([], "critical") == []


def test_a_critical_alert_is_told_at_once_and_its_end_too(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change())
        at.step()
        at.run_for(3 * MINUTE_US)
        at.observe(change(resolved_at=at.clock.now))
        at.step()
        assert sender.reasons == ["first", "all_resolved"]
        assert [delivery.at for delivery in sender.sent] == [START_US, START_US + 3 * MINUTE_US]
        assert at.notifier.next_at(at.clock.now) is None


def test_a_warning_waits_for_company(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change(severity="warning", labels={**LABELS, "volume": "a"}))
        at.run_for(20 * SECOND_US)
        assert sender.sent == []
        at.observe(change(severity="warning", labels={**LABELS, "volume": "b"}))
        at.run_for(MINUTE_US)
        assert [delivery.body["firing"] for delivery in sender.sent] == [2]
        assert sender.sent[0].at == START_US + 30 * SECOND_US


def test_nobody_is_told_without_a_route(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, with_routes(fake_settings("oncall")), sender) as at:
        at.observe(change())
        at.run_for(HOUR_US)
        assert sender.sent == []


def test_observing_the_same_change_again_changes_nothing(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        for _ in range(3):
            with at.state.transaction() as session:
                observe(session, at.settings.notify.routes, change(), at.clock.now)
            at.run_for(MINUTE_US)
        assert len(sender.sent) == 1


# --- evidence -------------------------------------------------------------------------------------------


def test_a_critical_message_waits_for_evidence_at_most_four_seconds(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change(incident_id=incident(at, status="running")))
        at.run_for(MINUTE_US)
        assert [delivery.at for delivery in sender.sent] == [START_US + 4 * SECOND_US]


def test_it_goes_as_soon_as_the_evidence_is_there_and_names_the_cause(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change(incident_id=incident(at)))
        at.run_for(SECOND_US)
        assert sender.sent == []
        with at.state.transaction() as session:
            run = session.scalars(select(RunbookRun)).one()
            run.status = "done"
            run.causes = [
                {
                    "cause": "bad-deploy",
                    "title": "Bad deploy",
                    "strength": "likely",
                    "because": ["since v2.31"],
                }
            ]
            opened = session.get_one(Incident, run.incident_id)
            opened.tenants, opened.users = {"ids": ["7"], "count": 3}, {"ids": [], "count": 4}
        at.run_for(SECOND_US)
        assert sender.titles == [
            "FIRING critical: High Error Rate, k12-core production: 12.4% (> 5% 5xx responses in 5 min), "
            "since 07:55 UTC; 3 tenants and fewer than 10 users affected; likely cause: Bad deploy"
        ]
        with at.state.reading() as session:
            (entry,) = session.scalars(select(TimelineEntry)).all()
        assert (entry.kind, entry.text) == ("notification", f"told oncall: {sender.titles[0]}")


def test_a_run_of_the_other_phase_is_not_waited_for(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change(incident_id=incident(at, phase="resolve")))
        at.step()
        assert len(sender.sent) == 1


# --- silences -------------------------------------------------------------------------------------------


def test_what_is_silenced_is_told_when_the_silence_ends(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        matchers = [silences.Matcher("alertname", "=", "HighErrorRate")]
        with at.state.transaction() as session:
            end = START_US + HOUR_US
            silences.add(session, matchers, START_US, end, "alice", "deploying", START_US)
        at.observe(change(), change(alert="AIGatewayDown"))
        at.run_for(HOUR_US - SECOND_US)
        assert [delivery.body["members"][0]["alert"] for delivery in sender.sent] == ["AIGatewayDown"]
        at.run_for(2 * SECOND_US)
        assert [delivery.body["members"][0]["alert"] for delivery in sender.sent][1:] == ["HighErrorRate"]


def test_what_resolves_while_it_is_silenced_is_told_neither_way(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        matchers = [silences.Matcher("service", "=", "k12-core")]
        with at.state.transaction() as session:
            silence = silences.add(
                session, matchers, START_US, START_US + HOUR_US, "alice", "deploying", START_US
            )
        at.observe(change())
        at.run_for(MINUTE_US)
        at.observe(change(resolved_at=at.clock.now))
        with at.state.transaction() as session:
            silences.expire(session, silence.id, "alice", at.clock.now)
        at.run_for(2 * HOUR_US)
        assert sender.sent == []


# --- E1, E3: crashes ------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ended here."""


class Mortality:
    """Ends the process at one of the moments that can matter: around every commit and every send."""

    def __init__(self) -> None:
        self.left = -1
        self.dead = False
        self._lock = threading.Lock()

    def moment(self) -> None:
        with self._lock:
            if self.left == 0:
                self.dead = True
            self.left -= 1
            if self.dead:
                raise Killed

    def revive(self) -> None:
        self.dead, self.left = False, -1


class MortalState(State):
    """A state whose transactions may be the last thing that a process does."""

    def __init__(self, state: State, mortality: Mortality) -> None:
        super().__init__(state.engine)
        self._mortality = mortality

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        self._mortality.moment()
        with super().transaction() as session:
            yield session
            self._mortality.moment()
        self._mortality.moment()


def story(cycles: int) -> list[tuple[int, list[Change]]]:
    """(seconds from the start, changes) of instances that fire and resolve, some together."""
    steps = []
    for cycle in range(cycles):
        start = START_US + cycle * 10 * MINUTE_US
        names = ["a"] if cycle % 3 else ["a", "b"]
        fires = [change(labels={**LABELS, "volume": name}, fired_at=start) for name in names]
        ends = [replace(one, resolved_at=start + 2 * MINUTE_US) for one in fires]
        steps += [(start, fires), (start + 2 * MINUTE_US, ends)]
    return steps


def live_through(at: Bench, cycles: int, mortality: Mortality, kill_every: int | None = None) -> int:
    """Runs the story; a process that ends is followed by another. How many ended."""
    kills = 0
    mortality.left = kill_every or mortality.left
    for when, changes in story(cycles):
        at.clock.now = max(when, at.clock.now)
        done = False
        while not done:
            try:
                at.observe(*changes)
                at.run_for(MINUTE_US)
                done = True
            except Killed:
                kills += 1
                at.notifier.close()
                mortality.revive()
                if kill_every:
                    mortality.left = kill_every + kills % 7
                assert kills < 1000, "no process lives long enough to get anything done"
                at.notifier = at.started()
    return kills


class MortalSender(FakeSender):
    def __init__(self, mortality: Mortality) -> None:
        super().__init__()
        self._mortality = mortality

    def __call__(self, channel: Channel, delivery: Delivery, private_hosts: frozenset[str]) -> Answer:
        self._mortality.moment()
        answer = super().__call__(channel, delivery, private_hosts)
        self._mortality.moment()
        return answer


def keys_after(
    folder: Path, cycles: int, first: int | None = None, kill_every: int | None = None
) -> tuple[Counter[str], list[Delivery], int]:
    """How often each key was sent, everything that was sent, and how many processes ended."""
    folder.mkdir()
    mortality = Mortality()
    sender = MortalSender(mortality)
    with bench(folder, fake_settings("oncall"), sender) as at:
        at.state = MortalState(at.state, mortality)
        at.notifier.close()
        at.notifier = at.started()
        if first is not None:
            mortality.left = first
        kills = live_through(at, cycles, mortality, kill_every)
    return Counter(delivery.key for delivery in sender.sent), sender.sent, kills


def test_E1_a_kill_at_every_moment_loses_nothing_and_invents_nothing(tmp_path: Path) -> None:
    reference, _, _ = keys_after(tmp_path / "reference", 1)
    assert len(reference) == 2
    moment, kills = 0, 1
    while kills:
        found, sent, kills = keys_after(tmp_path / f"kill{moment}", 1, first=moment)
        assert found.keys() == reference.keys(), f"killed at moment {moment}"
        assert sum(found.values()) - len(found) <= kills
        numbers = [delivery.attempt for delivery in sent]
        assert max(Counter((d.key, d.attempt) for d in sent).values()) == 1, numbers
        moment += 1
    assert moment > 20


def test_E1_many_kills_over_many_cycles(tmp_path: Path) -> None:
    reference, _, _ = keys_after(tmp_path / "reference", 12)
    found, _, kills = keys_after(tmp_path / "killed", 12, kill_every=11)
    assert kills >= 20
    assert found.keys() == reference.keys()
    assert sum(found.values()) - len(found) <= kills


def test_E3_a_lost_answer_is_at_most_one_repeat_with_the_same_key(
    tmp_path: Path, receiver: WebhookReceiver, clock: FakeClock
) -> None:
    receiver.script.append(Reply(drop=True))
    with bench(tmp_path, settings(oncall=receiver.url)) as at:
        at.clock = clock
        at.notifier.close()
        at.notifier = at.started()
        at.observe(change())
        at.run_for(MINUTE_US)
        first, second = receiver.ledger
        assert first.key == second.key
        assert (first.attempt, second.attempt) == (1, 2)
        (told,) = ledger(at)
        assert [line["outcome"] for line in told["attempts"]] == ["retry", "accepted"]


def test_E3_an_interrupted_send_is_a_line_of_the_ledger(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change())
        at.step()
        with at.state.transaction() as session:
            row = session.scalars(select(Notification)).one()
            row.status, row.next_try_at = "sending", at.clock.now
        assert at.started().recover(at.clock.now) == 1
        at.step()
        (told,) = ledger(at)
        answers = [line["answer"] for line in told["attempts"]]
        assert answers[1].startswith("interrupted")
        assert [delivery.attempt for delivery in sender.sent] == [1, 2]


# --- E2: receivers that fail ----------------------------------------------------------------------------


def test_E2_everything_arrives_after_an_hour_of_trouble_in_order(tmp_path: Path) -> None:
    def answer(delivery: Delivery) -> Answer:
        age = delivery.at - START_US
        if age < 30 * MINUTE_US:
            return Answer("retry", "timeout: no answer")
        if age < 60 * MINUTE_US:
            return Answer("retry", "HTTP 503")
        return Answer("accepted", "HTTP 200")

    sender = FakeSender(answer)
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        for minute in range(0, 40, 10):
            at.observe(change(fired_at=at.clock.now))
            at.run_for(5 * MINUTE_US)
            at.observe(change(fired_at=START_US + minute * MINUTE_US, resolved_at=at.clock.now))
            at.run_for(5 * MINUTE_US)
        at.run_for(HOUR_US)
        rows = ledger(at)
        assert [row["status"] for row in rows] == ["delivered"] * 8
        arrived = [d for d in sender.sent if answer(d).outcome == "accepted"]
        assert [d.body["status"] for d in arrived] == ["firing", "resolved"] * 4
        starts = [d.body["members"][0]["fired_at"] for d in arrived]
        assert starts == sorted(starts)
        numbers = [d.attempt for d in sender.sent if d.key == arrived[0].key]
        assert numbers == list(range(1, len(numbers) + 1))


def test_E2_retry_after_is_obeyed(tmp_path: Path, receiver: WebhookReceiver) -> None:
    receiver.script.extend([Reply(429, retry_after="900"), Reply(500)])
    with bench(tmp_path, settings(oncall=receiver.url)) as at:
        receiver.clock = at.clock
        at.observe(change())
        at.run_for(HOUR_US)
        (told,) = ledger(at)
        attempts = told["attempts"]
        assert [line["at"] for line in attempts] == [
            "2026-11-23T07:55:00Z",
            "2026-11-23T08:10:00Z",
            "2026-11-23T08:10:01Z",
        ]
        assert [line["answer"] for line in attempts] == ["HTTP 429", "HTTP 500", "HTTP 200"]


def test_E2_seven_days_then_dead_and_visible(tmp_path: Path) -> None:
    sender = FakeSender(lambda _: Answer("retry", "HTTP 503", retry_after_us=HOUR_US))
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        incident_id = incident(at, status="done")
        at.observe(change(incident_id=incident_id))
        at.step()
        at.run_for(DEAD_LETTER_US - 2 * SECOND_US)
        assert [row["status"] for row in ledger(at)] == ["pending"]
        assert len(ledger(at)) == 1, "nothing is repeated before it arrived once"
        at.run_for(2 * HOUR_US)
        assert [row["status"] for row in ledger(at)][-1] == "dead"
        with at.state.reading() as session:
            (entry,) = session.scalars(select(TimelineEntry)).all()
        assert entry.text == "could not tell oncall: HTTP 503"


def test_E2_a_refusal_is_for_good_and_another_channel_hears_of_it(tmp_path: Path) -> None:
    sender = FakeSender(
        lambda d: Answer("refused", "HTTP 404") if d.channel == "broken" else Answer("accepted", "ok")
    )
    told = with_routes(fake_settings("broken", "backup"), {"to": ["broken"]})
    with bench(tmp_path, told, sender) as at:
        at.observe(change())
        at.run_for(HOUR_US)
        assert len(sender.to("broken")) == 1
        assert [d.body["title"] for d in sender.to("backup")] == [
            "FIRING warning: Notification Failing, receiver=broken: 1 message not delivered, "
            "the oldest of 07:55 UTC; last answer: HTTP 404"
        ]
        at.observe(change(alert="AIGatewayDown", fired_at=at.clock.now))
        at.run_for(MINUTE_US)
        assert len(sender.to("backup")) == 2, "an hour later it is told again"


def test_a_channel_overdue_for_five_minutes_is_told_once_an_hour(tmp_path: Path) -> None:
    sender = FakeSender(
        lambda d: Answer("retry", "HTTP 503") if d.channel == "broken" else Answer("accepted", "ok")
    )
    told = with_routes(fake_settings("broken", "backup"), {"to": ["broken"]})
    with bench(tmp_path, told, sender) as at:
        at.observe(change())
        at.run_for(5 * MINUTE_US - SECOND_US)
        assert sender.to("backup") == []
        at.run_for(MINUTE_US)
        assert [d.body["reason"] for d in sender.to("backup")] == ["notification_failing"]
        at.run_for(4 * HOUR_US - 10 * MINUTE_US)
        assert len(sender.to("backup")) == 4


def test_the_last_channel_that_fails_is_told_to_nobody(tmp_path: Path) -> None:
    sender = FakeSender(lambda _: Answer("retry", "HTTP 503"))
    with bench(tmp_path, fake_settings("a", "b"), sender) as at:
        at.observe(change())
        at.run_for(2 * HOUR_US)
        assert {row["reason"] for row in ledger(at)} == {"first"}


def test_a_slow_receiver_delays_no_other(tmp_path: Path) -> None:
    released, arrived = threading.Event(), threading.Event()

    def answer(delivery: Delivery) -> Answer:
        if delivery.channel == "slow":
            released.wait(10)
        else:
            arrived.set()
        return Answer("accepted", "ok")

    with bench(tmp_path, fake_settings("slow", "quick"), FakeSender(answer)) as at:
        at.observe(change())
        at.notifier.step(at.clock.now)
        assert arrived.wait(10)
        at.notifier.step(at.clock.now)
        released.set()
        at.notifier.drain()
        assert [row["status"] for row in ledger(at)] == ["delivered", "delivered"]


def test_a_sender_that_fails_is_an_answer_not_the_end(tmp_path: Path) -> None:
    def answer(_delivery: Delivery) -> Answer:
        raise ZeroDivisionError("oops")

    with bench(tmp_path, fake_settings("oncall"), FakeSender(answer)) as at:
        at.observe(change())
        at.step()
        (told,) = ledger(at)
        assert told["attempts"][0]["answer"] == "the sender failed: ZeroDivisionError: oops"
        assert told["status"] == "pending"


def test_a_channel_that_left_the_settings_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path, fake_settings("oncall"), FakeSender()) as at:
        at.observe(change())
        at.settings = fake_settings()
        at.notifier.close()
        at.notifier = at.started()
        at.step()
        assert [row["status"] for row in ledger(at)] == ["dead"]


# --- E4, E6: nothing without a reason -------------------------------------------------------------------


def test_E4_a_restart_tells_nothing_and_what_changed_meanwhile_once(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change())
        at.run_for(MINUTE_US)
        at.notifier.close()
        at.notifier = at.started()
        at.run_for(HOUR_US)
        assert sender.reasons == ["first"]
        at.notifier.close()
        at.clock.now += 30 * MINUTE_US
        at.notifier = at.started()
        at.observe(change(resolved_at=at.clock.now - 10 * MINUTE_US))
        at.run_for(HOUR_US)
        assert sender.reasons == ["first", "all_resolved"]


def test_E6_thirty_days_are_exactly_the_repeats_asked_for(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change())
        steps = at.run_for(30 * 24 * HOUR_US - SECOND_US)
        assert sender.reasons == ["first"] + ["repeat"] * 179
        assert len({delivery.key for delivery in sender.sent}) == 180
        assert steps < 3 * 180, "no tight loop"


# --- E11: a storm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["volume", "service"])
def test_E11_ten_thousand_instances_are_at_most_twenty_notifications(tmp_path: Path, label: str) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        for batch in range(20):
            at.observe(
                *(change(labels={**LABELS, label: f"x{n}"}) for n in range(500 * batch, 500 * (batch + 1)))
            )
            at.run_for(3 * SECOND_US)
        at.run_for(6 * MINUTE_US)
        assert len(sender.sent) <= 20
        newest: dict[str, int] = {}
        for delivery in sender.sent:
            newest[delivery.group_key] = delivery.body["firing"]
            assert len(delivery.body["members"]) + delivery.body["more"] == delivery.body["firing"]
        assert sum(newest.values()) == 10_000


def test_on_postgresql_it_is_the_same(tmp_path: Path, postgresql_url: str) -> None:
    sender = FakeSender()
    at = Bench(State.at_url(postgresql_url), fake_settings("oncall"), {"webhook": sender, "email": sender})
    try:
        at.observe(
            change(incident_id=incident(at, status="done")), change(alert="DiskUsage", severity="warning")
        )
        at.run_for(MINUTE_US)
        at.observe(change(resolved_at=at.clock.now))
        at.run_for(5 * HOUR_US)
        assert sender.reasons == ["first", "first", "all_resolved", "repeat"]
        assert [row["status"] for row in ledger(at)] == ["delivered"] * 4
    finally:
        at.close()


def test_a_drill_is_marked_everywhere(tmp_path: Path) -> None:
    sender = FakeSender()
    with bench(tmp_path, fake_settings("oncall"), sender) as at:
        at.observe(change(drill="d1"), change())
        at.step()
        assert sorted(title.split(":")[0] for title in sender.titles) == [
            "DRILL FIRING critical",
            "FIRING critical",
        ]
        assert {row["drill"] for row in ledger(at)} == {"d1", ""}
