"""Bar E10: on random histories the engine finds the episodes of an evaluator that shares no code with it."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import brute_force
import pytest
from histories import SECOND, Event, connect, rules
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin_server.backtest import backtest
from tocsin_server.clock import iso
from tocsin_server.evaluate import State, advance
from tocsin_server.query import STEP_US, Grid

SEVEN = rules(*brute_force.TABLE)
SERVICES = [("core", "production"), ("core", None), ("gateway", "production"), (None, None)]
ROUTES = [None] * 6 + ["/up", "/api/v1/health", "/api/v1/ai/stream", "/api/v1/courses/:id"]


def expected(events: list[Event], until: int) -> list[dict]:
    found = brute_force.episodes(events, until)
    for episode in found:
        for name in ("pending_at", "fired_at", "resolved_at"):
            episode[name] = None if episode[name] is None else iso(episode[name])
    return sorted(found, key=_order)


def _order(episode: dict) -> tuple:
    return episode["fired_at"], episode["alert"], sorted(episode["labels"].items())


def actual(events: list[Event], until: int) -> list[dict]:
    report = backtest(connect(events), SEVEN, to_us=until)
    assert not report.errors
    return sorted(report.as_json()["episodes"], key=_order)


# --- random histories -----------------------------------------------------------------------------------


def history(random: random.Random) -> tuple[list[Event], int]:
    """Phases of traffic, gauges and silence near the thresholds; many times exactly on an instant."""
    events: list[Event] = []
    clock = random.choice([600, 1_700_000_000, random.randrange(600, 10**6)]) * SECOND
    until = clock + random.choice([20, 40, 90]) * 60 * SECOND
    while clock < until:
        length = random.choice([60, 150, 300, 630]) * SECOND
        phase = random.choice(PHASES)
        service, environment = random.choice(SERVICES)
        where = {"service": service, "environment": environment}
        events += [{**where, **event} for event in phase(random, clock, clock + length)]
        clock += random.choice([0, 30, 90, 300, 600]) * SECOND
    if random.random() < 0.3 and events:
        events.append({**random.choice(events), "ts": clock + random.choice([23, 26]) * 3600 * SECOND})
    events = [{"event_id": f"{i:04d}", **event} for i, event in enumerate(events)]
    last = max((event["ts"] for event in events), default=clock)
    return events, min(last + random.choice([0, 10, 40]) * 60 * SECOND, until + 3600 * SECOND)


def moment(random: random.Random, start: int, end: int) -> int:
    at = random.randrange(start, end)
    nearby = at // STEP_US * STEP_US
    return random.choice([at, at, at, nearby, nearby + 1, nearby - 1])


def traffic(random, start, end):
    bad, slow = random.choice([0, 0.04, 0.06, 0.3, 1]), random.choice([0, 0.04, 0.06, 1])
    for _ in range(random.choice([19, 20, 40, 120])):
        yield {
            "ts": moment(random, start, end),
            "name": "api.request",
            "http_status": 500 if random.random() < bad else random.choice([200, 404, 429, 499]),
            "duration_ms": random.choice([2000.5, 9000.0]) if random.random() < slow else 2000.0,
            "probe": random.choice([None, None, False, True]),
            "streaming": random.choice([None, None, None, True]),
            "route": random.choice(ROUTES),
            "path": random.choice(ROUTES),
            "controller": random.choice([None, None, None, "rails/health", "api/v1/ai_stream"]),
        }


def steady_slow(random, start, end):
    for at in range(start, end, 2 * SECOND):
        yield {"ts": at, "name": "api.request", "http_status": 200, "duration_ms": 3000.0}


def queue(random, start, end):
    base, gap = random.choice([40, 60, 100, 101, 150]), random.choice([0, 0, 0.3])
    for at in range(start, end, 30 * SECOND):
        for name in random.choice([["a"], ["a", "b"], ["a", None]]):
            if random.random() >= gap:
                jitter = random.choice([0, 0, 1, -1, 12 * SECOND])
                yield {"ts": at + jitter, "name": "job.queue", "queue": name, "depth": base}


def checks(random, start, end):
    failing = random.choice([0.2, 0.8, 1])
    for at in range(start, end, random.choice([30, 60]) * SECOND):
        status = random.choice(["failure", "failure", None]) if random.random() < failing else "success"
        target = random.choice(["ai-gateway"] * 6 + ["ai-gateway-eu", "core", None])
        yield {"ts": at, "name": "health.check", "target": target, "status": status}


def syncs(random, start, end):
    for _ in range(random.choice([3, 6, 9])):
        yield {
            "ts": moment(random, start, end),
            "name": "sync.run",
            "status": random.choice(["error", "error", "error", "partial", "success"]),
            "run_id": random.choice([None, *(f"run-{i}" for i in range(12))]),
        }


def disk(random, start, end):
    used = random.choice([50, 80, 81, 99])
    for at in range(start, end, random.choice([60, 60, 150]) * SECOND):
        broken = random.random() < 0.1
        yield {
            "ts": at,
            "name": "db.disk",
            "volume": random.choice(["main", "main", None]),
            "used_bytes": random.choice([None, 101, used]) if broken else used,
            "capacity_bytes": random.choice([None, 0, -1, 100]) if broken else 100,
        }


def logins(random, start, end):
    for _ in range(random.choice([10, 20, 21, 30])):
        status = random.choice(["failure"] * 9 + ["success", "cancelled", "throttled"])
        yield {"ts": moment(random, start, end), "name": "auth.login", "status": status}


def dense_checks(random, start, end):
    for at in range(start, end, 7 * SECOND):
        status = random.choice(["failure", "failure", "failure", "success"])
        yield {"ts": at, "name": "health.check", "target": "ai-gateway", "status": status}


def heartbeats(random, start, end):
    for at in range(start, end, 60 * SECOND):
        yield {"ts": at, "name": "log.heartbeat"}


def chatter(random, start, end):
    for at in range(start, end, random.choice([20, 170, 180, 190]) * SECOND):
        yield {"ts": at, "name": "log"}


PHASES = [
    traffic,
    traffic,
    steady_slow,
    queue,
    queue,
    checks,
    dense_checks,
    syncs,
    disk,
    disk,
    logins,
    heartbeats,
    chatter,
]


def silences(random: random.Random) -> tuple[list[Event], int]:
    """Failures of several services that then chatter, or fall silent, around the 3 minutes that matter."""
    start, events = 600 * SECOND, list[Event]()
    until = start + random.choice([30, 75]) * 60 * SECOND
    kinds = random.choice(
        [[FAILED_LOGIN, FAILED_REQUEST, SLOW_REQUEST, FAILED_SYNC, LOGIN], [FAILED_LOGIN, LOGIN]]
    )
    for service in random.sample(["a", "b", "c"], random.choice([1, 2, 2, 3])):
        where = {"service": service, "environment": random.choice(["production", "production", "staging"])}
        failing = random.choice(kinds)
        burst = start + random.randrange(30) * STEP_US
        events += [
            {**where, **failing, "ts": burst + i * SECOND} for i in range(random.choice([1, 7, 30, 90]))
        ]
        if random.random() < 0.8:
            beat = random.choice([start, burst, burst, burst + random.choice([500, 700, 1500]) * SECOND])
            events.append({**where, "environment": "other", "name": "log.heartbeat", "ts": beat})
        at, steps = (
            burst,
            random.choice([[60, 150, 179], [180, 181, 200, 210, 211, 240, 600], [60, 200, 900]]),
        )
        while at < until:
            at += random.choice(steps) * SECOND
            events.append({**where, "name": random.choice(["log", "log", "job.completed"]), "ts": at})
    return [{"event_id": f"{i:04d}", **event} for i, event in enumerate(events)], until


LOGIN = {"name": "auth.login", "status": "success"}
FAILED_LOGIN = {"name": "auth.login", "status": "failure"}
FAILED_SYNC = {"name": "sync.run", "status": "error"}
FAILED_REQUEST = {"name": "api.request", "http_status": 503}
SLOW_REQUEST = {"name": "api.request", "http_status": 200, "duration_ms": 2001.0}


def days(random: random.Random) -> tuple[list[Event], int]:
    """A failure, silence, perhaps one more event: around the 24 h in which a label set is remembered."""
    kind = random.choice([FAILED_LOGIN, FAILED_SYNC, FAILED_REQUEST])
    times = [600 + i for i in range(30)]
    times += [600 + random.choice([80_000, 86_370, 86_400, 86_430])] * random.choice([0, 1])
    events = [{"service": "a", **kind, "ts": t * SECOND, "event_id": f"{t}"} for t in times]
    events.append({"service": "a", "name": "log.heartbeat", "ts": 600 * SECOND, "event_id": "beat"})
    return events, (600 + random.choice([86_460, 87_000, 90_000])) * SECOND


# --- the comparison -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generate", "count"),
    [(history, 40), (silences, 80), (days, 8)],
    ids=["E10 phases", "E10 silences", "E10 days"],
)
def test_same_episodes_as_brute_force(generate, count):
    for seed in range(count):
        events, until = generate(random.Random(seed))
        if events:
            assert actual(events, until) == expected(events, until), f"seed {seed}"


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_same_episodes_as_brute_force_on_new_histories(seed):
    events, until = history(random.Random(seed))
    if events:
        assert actual(events, until) == expected(events, until)


@pytest.mark.parametrize("seed", range(5))
def test_any_split_of_a_history_gives_the_same_transitions(seed):
    """Live evaluation, catching up and backtest are one function: only the grids differ."""
    source = random.Random(1000 + seed)
    events, until = history(source)
    connection = connect(events)
    start = min(event["ts"] for event in events) // STEP_US * STEP_US
    whole = advance(connection, SEVEN, {}, Grid(start, until))
    found, states = [], {}
    cuts = sorted(
        {start, until + 1, *(source.randrange(start, until) // STEP_US * STEP_US for _ in range(12))}
    )
    for left, right in pairwise(cuts):
        result = advance(connection, SEVEN, states, Grid(left, right - 1))
        rows = json.loads(json.dumps([state.as_row() for state in result.states.values()]))
        states = {(state.alert, state.labels): state for state in map(State.from_row, rows)}
        found += result.transitions
    assert found == whole.transitions
    assert states == whole.states
