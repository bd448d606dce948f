"""The faults: marked synthetic lines, and exactly the alert that each is made for."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from drilled import OUTBREAK_US, SEED, START_US, catalogue, played
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.events import EVENTS
from tocsin_server.clock import SECOND_US
from tocsin_server.drill import FAULTS, Fault
from tocsin_server.drill.fault import LEAD_US

_SHORT_US = LEAD_US + 300 * SECOND_US


def _fields(line: bytes) -> dict[str, object]:
    line_fields = json.loads(line)
    return {**line_fields, **line_fields.pop("tags", {})}


@given(st.sampled_from(sorted(FAULTS)), st.integers(0, 2**31))
@settings(max_examples=15)
def test_lines_are_marked_sorted_repeatable_and_in_the_catalogue(name: str, seed: int) -> None:
    lines = list(FAULTS[name].lines(START_US, START_US + _SHORT_US, seed, "staging", "drill-1"))
    events = [_fields(line) for line in lines]
    assert lines == list(FAULTS[name].lines(START_US, START_US + _SHORT_US, seed, "staging", "drill-1"))
    assert all(a["timestamp"] <= b["timestamp"] for a, b in pairwise(events))
    assert {(event["drill"], event["environment"]) for event in events} == {("drill-1", "staging")}
    assert {event["metric"] for event in events} <= EVENTS.keys()


def test_people_are_synthetic() -> None:
    events = [_fields(line) for line in FAULTS["brute-force"].lines(START_US, START_US + _SHORT_US, SEED)]
    users = {event["user_id"] for event in events if "user_id" in event}
    assert all(re.fullmatch(r"u_[0-9a-f]{16}", str(user)) for user in users)
    assert all(isinstance(event["tenant_id"], int) for event in events if "tenant_id" in event)


def test_every_alert_that_opens_incidents_has_a_fault_with_a_cause() -> None:
    alerts = {rule.alert for rule in catalogue().rules if not rule.meta}
    assert {fault.alert for fault in FAULTS.values() if fault.cause} == alerts


def test_an_ordinary_morning_fires_nothing() -> None:
    assert played("healthy").episodes == ()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_fires_exactly_its_alert_and_resolves(fault: Fault) -> None:
    seen = played(fault.name)
    assert seen.books.rejected == 0
    assert sorted(episode.alert for episode in seen.episodes) == sorted({fault.alert, *fault.others})
    for episode in seen.episodes:
        assert OUTBREAK_US < episode.fired_at <= OUTBREAK_US + fault.lasts_s * SECOND_US
        assert episode.resolved_at is not None
