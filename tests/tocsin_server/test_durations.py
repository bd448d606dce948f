"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.durations import MAX_DURATION_US, UNITS_US, format_duration, parse_duration

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1d", 86_400),
        ("1w", 604_800),
        ("500ms", 0.5),
    ],
)
def test_parse(text, seconds):
    assert parse_duration(text) == seconds * SECOND


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m", "-5m", "1.5h", "30m1h", "5m5m", "5M", "٥m", "99999999d"]
)
def test_refuse(text):
    with pytest.raises(ValueError, match=r"duration|ten years"):
        parse_duration(text)


@given(st.sampled_from(sorted(UNITS_US.values())), st.integers(0, 10_000))
def test_round_trip(unit, number):
    if unit * number <= MAX_DURATION_US:
        assert parse_duration(format_duration(unit * number)) == unit * number
