"""Row I10 of the bar: every timestamp that programs print, and the ones that lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsing import CONTEXT, RECEIVED_AT, REPLAY, understood

from tocsin_server.dialects import finish, timestamp_us

AT = 1_795_420_512_345_000  # 2026-11-23T07:55:12.345Z
SECOND = 1_000_000

FORMS = {
    "I10-canonical": ("2026-11-23T07:55:12.345Z", AT),
    "I10-no-zone-is-utc": ("2026-11-23T07:55:12.345", AT),
    "I10-space-and-comma": ("2026-11-23 07:55:12,345", AT),
    "I10-offset": ("2026-11-23T18:55:12.345+11:00", AT),
    "I10-offset-without-colon": ("2026-11-23T18:55:12.345+1100", AT),
    "I10-offset-hours": ("2026-11-22T23:55:12.345-08", AT),
    "I10-nanoseconds-text": ("2026-11-23T07:55:12.345000999Z", AT),
    "I10-rails-puts": ("2026-11-23 07:55:12 +0000", AT - 345_000),
    "I10-s": (1_795_420_512, AT - 345_000),
    "I10-s-float": (1_795_420_512.345, AT),
    "I10-ms": (1_795_420_512_345, AT),
    "I10-us": (AT, AT),
    "I10-ns": (AT * 1000 + 7, AT),
    "I10-digits": ("1795420512345", AT),
    "I10-digits-s": ("1795420512.345", AT),
    "I10-1970": (0, 0),
    "I10-before-1970": ("1969-12-31T23:59:59Z", -SECOND),
    "I10-year-1": ("0001-01-01T00:00:00Z", -62_135_596_800 * SECOND),
    "I10-2106": (4_294_967_296, 4_294_967_296 * SECOND),
    "I10-year-9999": ("9999-12-31T23:59:59.999999Z", 253_402_300_800 * SECOND - 1),
    "I10-leap-second": ("2016-12-31T23:59:60Z", 1_483_228_800 * SECOND),
    "I10-dst-gap-has-an-offset": ("2026-03-08T02:30:00-05:00", 1_772_955_000 * SECOND),
}
UNUSABLE = [
    "2026-11-23T07:55:12.345+",
    "",
    "2026-11-23T07:55:12.345-0",
    "soon",
    "2026-13-01T00:00:00Z",
    "2026-11-23",
    "10000-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
]
UNUSABLE += [
    "2026-11-23T25:00:00Z",
    "2026-11-23T07:55:12+99:00",
    "0001-01-01T00:00:00+01:00",
    "12",
    "٢٠٢٦-11-23T07:55:12Z",
]


@pytest.mark.parametrize(("value", "expected"), FORMS.values(), ids=FORMS)
def test_forms(value: object, expected: int) -> None:
    assert timestamp_us(value) == expected


@pytest.mark.parametrize("value", [*UNUSABLE, None, True, [], {}, 1e300, 10**30])
def test_unusable(value: object) -> None:
    assert timestamp_us(value) is None


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),
    st.integers(-23 * 60, 23 * 60),
    st.sampled_from([" ", "T"]),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_i10_any_instant_in_any_zone(at: datetime, minutes: int, separator: str, precision: str) -> None:
    zoned = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = zoned.isoformat(separator, precision)
    expected = (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert timestamp_us(text) == expected


@given(st.integers(-(10**10), 10**11 - 1))
def test_i10_seconds(seconds: int) -> None:
    assert timestamp_us(seconds) == seconds * SECOND


@given(st.one_of(st.text(max_size=40), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_i10_anything_is_a_time_in_range_or_none(value: object) -> None:
    at = timestamp_us(value)
    assert at is None or -62_135_596_800 * SECOND <= at < 253_402_300_800 * SECOND


def line(timestamp: str) -> str:
    return f'{{"timestamp":"{timestamp}","message":"m","service":"s"}}'


def test_clock_skew_beyond_60_s_is_corrected_and_kept() -> None:
    event = understood(line("2026-11-23T08:01:00.001Z"), CONTEXT)
    assert event.ts == RECEIVED_AT
    assert event.attrs == {"ts_original": "2026-11-23T08:01:00.001000Z", "clock_skew": True}


@pytest.mark.parametrize("stamp", ["2026-11-23T08:01:00Z", "2026-11-15T08:00:00Z", "0001-01-01T00:00:00Z"])
def test_within_60_s_and_the_past_stay(stamp: str) -> None:
    event = understood(line(stamp), CONTEXT)
    assert event.ts == timestamp_us(stamp)
    assert event.attrs is None


def test_replay_corrects_nothing() -> None:
    assert understood(line("2030-01-01T00:00:00Z"), REPLAY).attrs is None


def test_a_line_without_time_gets_the_newest_before_it() -> None:
    event = understood("plain")
    assert event.ts is None
    assert finish(event, AT).ts == AT
    assert event.attrs == {"ts_inferred": True}
    assert finish(understood("first"), None).ts == RECEIVED_AT


def test_an_unusable_time_is_kept() -> None:
    event = understood(line("soon"))
    assert (event.ts, event.attrs) == (None, {"timestamp": "soon"})


def test_text_begins_with_its_time() -> None:
    assert understood("[2026-11-23 07:55:12,345] booted").ts == AT
    assert understood("2026-11-23T07:55:12.345Z booted").ts == AT
    assert understood("2026-11-23 07:55:12.345 +0000 HTTP parse error").ts == AT
    assert understood("at 2026-11-23T07:55:12.345Z booted").ts is None
