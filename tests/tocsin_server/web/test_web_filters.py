"""The explore page's filters and time ranges: what the URL says is what is selected."""

from __future__ import annotations

import operator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import histories
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.query import Selection
from tocsin_server.web.charts import Buckets, chart, segments, top_of
from tocsin_server.web.filters import Filters, explore_url, of_selection, parse_filter
from tocsin_server.web.params import BadRequest, Params, TimeRange, moment, parse_moment, time_range

NOW_US = 1_795_421_400_000_000
SECOND = 1_000_000


def params(**names: str | list[str]) -> Params:
    pairs = [
        (name, value)
        for name, values in names.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return Params(tuple(pairs))


# --- time -----------------------------------------------------------------------------------------------


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_time_in_a_url_is_read_as_it_was_written(at_us: int) -> None:
    assert parse_moment(moment(at_us), 0) == at_us


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T08:10:00Z", 0),
        ("2026-11-23 08:10", 0),
        ("2026-11-23T09:10:00+01:00", 0),
        ("now", 0),
        ("now-6h", -21_600),
        ("now+2h", 7_200),
    ],
)
def test_times_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert parse_moment(text, NOW_US) == NOW_US + seconds * SECOND


@pytest.mark.parametrize("text", ["x", "now-", "now*1h", "2026-13-01", "9" * 400, "\0", "now-99999w"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(BadRequest, match="is no time"):
        parse_moment(text, NOW_US)


def test_a_range_must_not_be_empty_or_endless() -> None:
    assert time_range(Params(), NOW_US) == TimeRange(NOW_US - 3600 * SECOND, NOW_US)
    with pytest.raises(BadRequest, match="before it begins"):
        time_range(params(**{"from": "now", "to": "now-1h"}), NOW_US)
    with pytest.raises(BadRequest, match="400 days"):
        time_range(params(**{"from": "2020-01-01"}), NOW_US)


# --- filters --------------------------------------------------------------------------------------------

EVENTS: list[dict[str, Any]] = [
    {
        "t": 1 + i,
        "name": name,
        "service": service,
        "http_status": status,
        "tenant_id": tenant,
        "region": region,
        "message": f"line {i} of {service}",
        "duration_ms": 1.5 * i,
    }
    for i, (name, service, status, tenant, region) in enumerate(
        (name, service, status, tenant, region)
        for name in ("api.request", "log")
        for service in ("core", 'it\'s "quoted"', None)
        for status in (200, 500, None)
        for tenant, region in (("7", "eu"), ("007", None))
    )
]
COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def meets(event: dict[str, Any], text: str) -> bool:
    """The reference: what one filter means."""
    one = parse_filter(text)
    value = event.get(one.field)
    if one.sign in COMPARED:
        return value is not None and COMPARED[one.sign](float(value), float(one.value))
    shown = "" if value is None else str(value)
    if one.sign == "!=":
        return shown != one.value
    return value is not None and (shown == one.value if one.sign == "=" else shown.startswith(one.value))


FILTERS = st.one_of(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["name", "service", "tenant_id", "region", "nothing"]),
        st.sampled_from(["=", "!=", "^="]),
        st.sampled_from(
            ["log", "core", 'it\'s "quoted"', "7", "007", "eu", "'; DROP TABLE events; --", "%", "é"]
        ),
    ),
    st.builds(
        "http_status{}{}".format,
        st.sampled_from(["=", "<", "<=", ">", ">="]),
        st.sampled_from(["200", "500", "499.5"]),
    ),
)


@given(
    st.lists(FILTERS, max_size=4),
    st.lists(FILTERS, max_size=2),
    st.sampled_from(["", "LINE 1", "quoted", "'"]),
)
def test_I16_filters_select_what_the_reference_selects(
    where: list[str], unless: list[str], text: str
) -> None:
    sql = Filters.of(params(where=where, unless=unless, q=text)).sql()
    found = CONNECTION.execute(f"SELECT message FROM events WHERE {sql.text}", sql.params).fetchall()
    assert sorted(message for (message,) in found) == sorted(
        event["message"] for event in EVENTS if expected(event, where, unless, text)
    )


def expected(event: dict[str, Any], where: list[str], unless: list[str], text: str) -> bool:
    equal: dict[str, bool] = {}
    for one in where:
        if parse_filter(one).sign == "=":
            field = parse_filter(one).field
            equal[field] = equal.get(field, False) or meets(event, one)
    rest = all(meets(event, one) for one in where if parse_filter(one).sign != "=")
    said = text.lower() in event["message"].lower()
    return all(equal.values()) and rest and said and not any(meets(event, one) for one in unless)


CONNECTION = histories.connect(EVENTS)


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "=x",
        "a b=c",
        "http_status=abc",
        "http_status>=x",
        "service>5",
        "attrs=1",
        "ts>=5",
        "x" * 2000 + "=1",
        'na"me=1',
        "probe=maybe",
        "http_status^=5",
    ],
)
def test_I16_a_filter_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        Filters.of(params(where=text)).sql()


def test_the_form_adds_one_filter() -> None:
    filters = Filters.of(params(where="name=log", field="level", operator="!=", value="info"))
    assert filters.pairs() == [("where", "name=log"), ("where", "level!=info")]


def test_too_many_filters_are_refused() -> None:
    with pytest.raises(BadRequest, match="more than 40"):
        Filters.of(params(where=[f"name={i}" for i in range(41)]))


SELECTING = [rule for rule in histories.catalogue() if isinstance(rule.condition, Selection)]


@pytest.mark.parametrize("rule", SELECTING, ids=lambda rule: rule.alert)
def test_a_rules_selection_survives_the_url(rule: Any) -> None:
    where, unless = of_selection(rule.condition)
    url = explore_url(TimeRange(0, NOW_US), where, unless)
    filters = Filters.of(Params(tuple(parse_qsl(urlsplit(url).query))))
    assert [str(one) for one in filters.where] == where
    assert [str(one) for one in filters.unless] == unless
    filters.sql()


# --- charts ---------------------------------------------------------------------------------------------


@given(st.integers(0, 10**15), st.integers(1, 10**13))
def test_buckets_cover_the_range(from_us: int, length: int) -> None:
    span = TimeRange(from_us, from_us + length)
    buckets = Buckets.of(span)
    spans = buckets.spans()
    assert spans[0].from_us <= span.from_us
    assert spans[-1].from_us < span.to_us <= spans[-1].to_us
    assert buckets.incomplete() == (spans[-1].to_us > span.to_us)
    assert len(spans) <= 61 or buckets.width == 604_800 * SECOND


def test_gaps_are_not_joined() -> None:
    assert len(segments([1, 2, None, 3], 3)) == 2
    assert segments([None, None], 1) == []


def test_a_threshold_far_above_does_not_flatten_the_values() -> None:
    near = chart("x", "ms", [0], {"a": [100]}, thresholds={"t": 200})
    far = chart("x", "ms", [0], {"a": [100]}, thresholds={"t": 2000})
    assert top_of(near) >= 200
    assert top_of(far) < 200


def test_no_data_is_not_zero() -> None:
    assert chart("x", "ms", [0, 1], {"a": [None, None]})["empty"]
    assert not chart("x", "ms", [0, 1], {"a": [None, 0]})["empty"]
