"""Selections and the range query against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from histories import at, connect
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tocsin_server.query import (
    STEP_US,
    Filters,
    Grid,
    Selection,
    Sql,
    bounds,
    bucketed,
    filter_fault,
    latest,
    selection_sql,
    sliding_distinct,
    sliding_sum,
)

SECOND = 1_000_000
COUNT = {"n": Sql("count(*)")}
FILTERS: TypeAdapter[Filters] = TypeAdapter(Filters)


def matching(where: dict, **fields) -> bool:
    connection = connect(at([600], "x", **fields))
    sql = selection_sql(Selection.model_validate({"event": "x", "where": where}))
    return connection.execute(f"SELECT count(*) FROM events WHERE {sql.text}", sql.params).fetchone() == (1,)


MATCHES = [
    ({"http_status": ">= 500"}, {"http_status": 500}, True),
    ({"http_status": ">= 500"}, {"http_status": 499}, False),
    ({"http_status": ">= 500"}, {}, False),
    ({"http_status": [500, 502]}, {"http_status": 502}, True),
    ({"duration_ms": "> 2000"}, {"duration_ms": 2000.0}, False),
    ({"probe": True}, {"probe": True}, True),
    ({"probe": False}, {}, False),
    ({"status": "error"}, {"status": "error"}, True),
    ({"status": "!= success"}, {"status": "error"}, True),
    ({"status": "!= success"}, {}, True),
    ({"target": "ai-gateway*"}, {"target": "ai-gateway-eu"}, True),
    ({"target": "ai-gateway*"}, {"target": "gateway"}, False),
    ({"target": "ai-gateway*"}, {}, False),
    ({"attempt": "> 2"}, {"attempt": 3}, True),
    ({"attempt": 3}, {"attempt": "3"}, True),
    ({"attempt": "> 2"}, {"attempt": "many"}, False),
    ({"cached": True}, {"cached": True}, True),
    ({"tenant_id": 7}, {"tenant_id": "7"}, True),
    ({"http.flavor": "1.1"}, {"http.flavor": "1.1"}, True),
    ({"status": "it's"}, {"status": "it's"}, True),
    ({"status": "error", "provider": "openai"}, {"status": "error", "provider": "anthropic"}, False),
]


@pytest.mark.parametrize(("where", "fields", "expected"), MATCHES)
def test_where(where, fields, expected):
    assert matching(where, **fields) is expected


def test_unless_needs_none_to_match_and_missing_fields_do_not_match():
    selection = Selection.model_validate(
        {"event": "x", "unless": {"probe": True, "path": ["/up", "/health"]}}
    )
    sql = selection_sql(selection)
    events = [*at([600, 601], "x"), *at([602], "x", probe=True), *at([603], "x", path="/up"), *at([604], "y")]
    answer = connect(events).execute(f"SELECT count(*) FROM events WHERE {sql.text}", sql.params).fetchone()
    assert answer == (2,)


@pytest.mark.parametrize("value", [None, [], {}, [[1]], ">= many", "> nan", "< inf"])
def test_refused_matchers(value):
    with pytest.raises(ValidationError):
        FILTERS.validate_python({"status": value})


@pytest.mark.parametrize("name", ["", "1a", "a b", "a;b", 'a"b', "a'b", "a" * 65])
def test_refused_field_names(name):
    with pytest.raises(ValidationError):
        FILTERS.validate_python({name: "x"})


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("http_status", "many", "is a number"),
        ("probe", "maybe", "is true or false"),
        ("status", "> 5", "is text and cannot be compared with a number"),
        ("attrs", "x", "is no field to filter by"),
        ("http_status", ">= 500", ""),
        ("depth", "> 5", ""),
    ],
)
def test_impossible_matchers(name, value, fault):
    assert filter_fault(name, FILTERS.validate_python({name: value})[name]) == fault


# --- buckets --------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.integers(-3_000, 3_000).map(lambda n: n * 100_000) | st.integers(-9, 9).map(lambda n: n * STEP_US)
    ),
    st.integers(-5, 5),
    st.integers(0, 6),
    st.integers(2, 5),
)
@settings(max_examples=40, deadline=None)
def test_windows_are_left_open_and_right_closed(times, first, length, width):
    """Also before 1970, and exact to the microsecond."""
    connection = connect({"ts": ts, "name": "x", "service": "s"} for ts in times)
    grid = Grid(first * STEP_US, (first + length) * STEP_US)
    rows = bucketed(connection, Sql("true"), {"service": "service"}, COUNT, grid, width * STEP_US)
    row = rows.get((("service", "s"),), {"bucket": np.empty(0, np.int64), "n": np.empty(0, np.int64)})
    size = width + len(grid) - 1
    sums = np.zeros(size, np.int64)
    sums[row["bucket"] - 1] = row["n"]
    expected = [sum(t - width * STEP_US < ts <= t for ts in times) for t in grid.instants().tolist()]
    assert sliding_sum(sums, width).tolist() == expected


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from("abc")), unique=True), st.integers(1, 5))
def test_distinct_and_latest_in_each_window(rows, width):
    size = 12
    rows = sorted(rows)
    buckets = np.array([bucket for bucket, _ in rows], np.int64)
    keys = np.array([key for _, key in rows], object)
    ends = range(width, size + 1)
    windows = [[row for row in rows if end - width < row[0] <= end] for end in ends]
    assert sliding_distinct(buckets, keys, width, size).tolist() == [len({k for _, k in w}) for w in windows]
    last = [rows.index(w[-1]) if w else -1 for w in windows]
    assert [(-1 if i < 0 else buckets[i]) for i in latest(buckets, width, size)] == [
        -1 if i < 0 else rows[i][0] for i in last
    ]


def test_missing_labels_are_empty_text():
    connection = connect([{"ts": 600 * SECOND, "name": "x"}])
    rows = bucketed(
        connection,
        Sql("true"),
        {"volume": "volume", "environment": "environment"},
        COUNT,
        Grid(600 * SECOND, 600 * SECOND),
        60 * SECOND,
    )
    assert list(rows) == [(("environment", ""), ("volume", ""))]


def test_bounds_without_events_is_empty():
    assert bounds(connect(), "min", Sql("true"), {}, None, 10**15) == {}


def test_grid_ends_on_an_instant():
    grid = Grid(0, 100 * SECOND)
    assert (grid.to_us, len(grid)) == (90 * SECOND, 4)
    assert [len(chunk) for chunk in grid.chunks(3)] == [3, 1]
    assert len(Grid(0, -1)) == 0
