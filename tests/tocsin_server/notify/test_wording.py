"""The sentence that people read first."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifying import HOUR_US, LABELS, MINUTE_US, RULES, START_US, change

from tocsin_server.clock import SECOND_US
from tocsin_server.notify.wording import (
    alert_title,
    clock_time,
    counted,
    headline,
    lasting,
    measured,
    people,
    shown,
    shown_labels,
    visible,
)

BY_NAME = {rule.alert: rule for rule in RULES}


@pytest.mark.parametrize(
    ("alert", "value", "words"),
    [
        ("HighErrorRate", 0.124, "12.4% (> 5% 5xx responses in 5 min)"),
        ("AuthFailures", 31, "31 (> 20 failed logins in 5 min)"),
        ("AIGatewayDown", 3, "Health check fails 3x"),
        ("DiskUsage", 0.912, "91.2% (> 80% database disk)"),
        ("JobQueueDepth", 1204, "1,204 (> 100 pending jobs for 10 min)"),
        ("SlowResponses", 0.07, "p95 latency > 2s for 5 min"),
        ("HighErrorRate", None, ""),
        ("Unknown", 3, ""),
    ],
)
def test_the_value_against_the_condition(alert: str, value: float | None, words: str) -> None:
    assert measured(change(alert, value=value), BY_NAME.get(alert)) == words


@pytest.mark.parametrize(
    ("alert", "title"),
    [("HighErrorRate", "High Error Rate"), ("AIGatewayDown", "AI Gateway Down"), ("Watchdog", "Watchdog")],
)
def test_an_alert_without_a_rule_is_named_in_words(alert: str, title: str) -> None:
    assert alert_title(alert, None) == title


def test_one_instance_that_fires_and_ends() -> None:
    now = START_US + 3 * MINUTE_US
    one = change(labels={**LABELS, "volume": "/var"})
    assert headline([one], BY_NAME, now) == (
        "High Error Rate, k12-core production volume=/var: 12.4% (> 5% 5xx responses in 5 min), "
        "since 07:55 UTC (3 min)"
    )
    assert headline([replace(one, resolved_at=now)], BY_NAME, now) == (
        "High Error Rate, k12-core production volume=/var: after 3 min, at 07:58 UTC"
    )


def test_several_instances_are_counted() -> None:
    many = [change(labels={**LABELS, "volume": str(n)}, fired_at=START_US + n) for n in range(3)]
    many[2] = replace(many[2], resolved_at=START_US + MINUTE_US)
    assert headline(many, BY_NAME, START_US + HOUR_US) == (
        "High Error Rate, k12-core production: 2 firing, 1 resolved, since 07:55 UTC (1 h 0 min)"
    )
    other = [change(name, labels={}) for name in ("A", "B", "C", "D", "E")]
    assert headline(other, {}, START_US) == "A, B, C and 2 more alerts: 5 firing, since 07:55 UTC"


def test_times_and_counts_as_people_say_them() -> None:
    assert [lasting(s * SECOND_US) for s in (0, 59, 60, 3600, 7500, 90_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "2 h 5 min",
        "1 d 1 h",
    ]
    assert clock_time(START_US, START_US + 25 * HOUR_US) == "2026-11-23 07:55 UTC"
    assert (counted(1, "tenant"), counted(1204, "tenant")) == ("1 tenant", "1,204 tenants")
    assert (people(9), people(10)) == ("fewer than 10 users", "10 users")


@given(st.text(max_size=400))
def test_I11_nothing_invisible_is_shown(text: str) -> None:
    for out in (shown(text), visible(text), *shown_labels({"volume": text, "service": text}).values()):
        assert not [c for c in out if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert len(shown(text)) <= 200
