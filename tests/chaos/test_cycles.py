"""Alerts fire and resolve while the process is killed: who is told what, and how often (rows E1, E3, E4)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.chaos import cycles
from tests.chaos.drivers import kills_wanted
from tocsin_server.backtest import Episode, backtest
from tocsin_server.clock import iso
from tocsin_server.notify.receivers import WebhookReceiver
from tocsin_server.rules import load_rules
from tocsin_server.state import State
from tocsin_server.state.tables import AlertTransition
from tocsin_server.store import Store

ROOT = Path(__file__).parents[2]
RULES = """alerts:
  - alert: LoginsFail
    severity: critical
    runbooks: [logins]
    when: {count: {event: auth.login, where: {status: failure}, above: 5, over: 1m}}
    by: [service, environment]
  - alert: LoginsFailOften
    severity: warning
    when: {count: {event: auth.login, where: {status: failure}, above: 5, over: 1m}}
    for: 90s
    keep_firing_for: 1m
    by: [service, environment]
"""
RUNBOOK = """---
runbook: 1
id: logins
title: Logins fail
service: billing
owner: platform-oncall
alerts: [LoginsFail]
last_reviewed: 2026-11-23
review_every: 90d
connections: [events]
---
# Logins

## Investigation

### 1. How many

```sql id=logins on=events rows=1
SELECT count(*) AS failed FROM events WHERE status = 'failure' AND ts <= :as_of LIMIT 1
```
"""


#: Alert, service, since when, firing or resolved.
Told = tuple[str, str, str, str]


@dataclass
class Played:
    """One run of a plan, over: its folder, who was told, and at which instants it was killed."""

    folder: Path
    instants: int
    receiver: WebhookReceiver
    kills: list[int]

    @property
    def keys(self) -> Counter[str]:
        return Counter(received.key for received in self.receiver.ledger)

    @property
    def repeats(self) -> int:
        return self.keys.total() - len(self.keys)

    @property
    def told(self) -> Counter[Told]:
        """What every message said, repeats of the same message left out."""
        messages = {received.key: received.body["alerts"] for received in self.receiver.ledger}
        return Counter(
            (alert["labels"]["alertname"], alert["labels"]["service"], alert["startsAt"], alert["status"])
            for alerts in messages.values()
            for alert in alerts
        )

    def episodes(self) -> list[Episode]:
        """What a backtest of the stored events finds, up to the last instant that was evaluated live."""
        store, rules = Store.open(self.folder / "data"), load_rules([self.folder / "rules"])
        with store.connect(threads=1) as connection:
            found = backtest(connection, rules, cycles.START_US, cycles.instant(self.instants - 1))
        store.close()
        return found.episodes

    def transitions(self) -> Counter[tuple[str, str, str, int]]:
        """What live evaluation found: alert, service, firing or resolved, when."""
        state = State.in_folder(self.folder / "data")
        with state.reading() as session:
            rows = session.scalars(select(AlertTransition)).all()
        state.close()
        said = ((row.alert, row.labels["service"], row.to, row.at) for row in rows)
        return Counter(one for one in said if one[2] in ("firing", "resolved"))


@contextmanager
def played(folder: Path, *plans: dict[str, Any], fault: str = "") -> Iterator[list[Played]]:
    """Runs plans at the same time, each in a folder of its own; those with kills with the fault."""
    runs, processes = [], []
    with ExitStack() as stack:
        for number, plan in enumerate(plans):
            receiver = stack.enter_context(WebhookReceiver())
            runs.append(Played(folder / str(number), plan["instants"], receiver, []))
            arguments = [json.dumps(plan), *([fault] if fault and plan["kills"] else [])]
            processes.append(stack.enter_context(closing(_Process(runs[-1], arguments))))
        for run, process in zip(runs, processes, strict=True):
            run.kills = process.result()["kills"]
        yield runs


class _Process:
    """The process that runs a plan."""

    def __init__(self, run: Played, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "tests.chaos.cycles", str(_prepared(run)), *arguments]
        self._errors = run.folder / "stderr"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def result(self) -> Any:
        said, _ = self._process.communicate(timeout=3600)
        assert self._process.returncode == 0, self._errors.read_text()
        return json.loads(said)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _prepared(run: Played) -> Path:
    for name, text in (("rules/logins.yaml", RULES), ("runbooks/LOGINS.md", RUNBOOK)):
        path = run.folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (run.folder / "tocsin.yaml").write_text(
        "rules: rules\nrunbooks: runbooks\nnotify:\n"
        f"  channels: {{chat: {{webhook: {{url: '{run.receiver.url}'}}}}}}\n  routes: [{{to: [chat]}}]\n"
    )
    return run.folder


def wrong(killed: Played, quiet: Played) -> list[str]:
    """Row E1: against an undisturbed run, what was not told, told besides, or told too often."""
    faults = [f"not told: {one}" for one in quiet.told - killed.told]
    faults += [f"told, but nothing changed: {one}" for one in killed.told - quiet.told]
    faults += [] if killed.keys.keys() == quiet.keys.keys() else ["the idempotency keys are others"]
    if killed.repeats > len(killed.kills):
        faults.append(f"{killed.repeats} repeats at {len(killed.kills)} kills")
    attempts = Counter((received.key, received.attempt) for received in killed.receiver.ledger)
    faults += [f"an attempt with the number of another one: {one}" for one, n in attempts.items() if n > 1]
    return faults + unlike_backtest(killed)


def unlike_backtest(run: Played) -> list[str]:
    """What live evaluation and a backtest of the same events disagree about."""
    wanted = Counter[tuple[str, str, str, int]]()
    for one in run.episodes():
        service = dict(one.labels)["service"]
        wanted[one.alert, service, "firing", one.fired_at] += 1
        if one.resolved_at is not None:
            wanted[one.alert, service, "resolved", one.resolved_at] += 1
    live = run.transitions()
    return [f"not live: {one}" for one in wanted - live] + [f"only live: {one}" for one in live - wanted]


def test_E1_E3_the_same_is_told_whenever_the_process_is_killed(tmp_path: Path, seed: int) -> None:
    kills = kills_wanted(20)
    plan = {"instants": max(60, 3 * kills), "seed": seed}
    with played(tmp_path, {**plan, "kills": 0}, {**plan, "kills": kills}) as (quiet, killed):
        assert wrong(killed, quiet) == []
        assert unlike_backtest(quiet) == []
        print(f"{len(killed.kills)} kills, {len(quiet.keys)} messages, {killed.repeats} repeats")
        assert len(killed.kills) == kills


def test_E4_what_changed_while_nobody_was_there_is_told_and_nothing_else(tmp_path: Path, seed: int) -> None:
    away = {6: 11, 20: 25, 50: 12, 63: 29, 97: 14}
    with played(tmp_path, {"instants": 120, "kills": 0, "seed": seed, "away": away}) as (run,):
        assert unlike_backtest(run) == []
        told = Counter({one: count for one, count in run.told.items() if one[0] == "LoginsFail"})
        assert told == Counter(seen(run.episodes(), visited(120, away)))
        assert run.repeats == 0


def visited(instants: int, away: dict[int, int]) -> list[int]:
    """The instants at which somebody was there."""
    gone = {number for at, length in away.items() for number in range(at, at + length)}
    return [number for number in range(instants) if number not in gone]


def seen(episodes: list[Episode], instants: list[int]) -> Iterator[Told]:
    """What is news to somebody who looks at these instants only: who fires, and who no longer does."""
    before: dict[str, int] = {}
    for number in instants:
        at = cycles.instant(number)
        firing = {
            dict(one.labels)["service"]: one.fired_at
            for one in episodes
            if one.alert == "LoginsFail" and one.fired_at <= at < (one.resolved_at or sys.maxsize)
        }
        for service, fired_at in sorted(firing.items() - before.items()):
            yield "LoginsFail", service, iso(fired_at), "firing"
        for service in sorted(before.keys() - firing.keys()):
            yield "LoginsFail", service, iso(before[service]), "resolved"
        before = firing
