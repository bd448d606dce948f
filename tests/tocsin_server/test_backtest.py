"""Backtests: the report's shape, its range, and histories with stray dates."""

from __future__ import annotations

from histories import SECOND, at, catalogue, connect, requests, rules

from tocsin_server.backtest import backtest


def test_report_has_the_documented_shape():
    history = [*requests(90), *requests(10, status=500)]
    report = backtest(connect(history), rules("HighErrorRate", "SlowResponses"))
    assert report.as_json() == {
        "from": "1970-01-01T00:10:00Z",
        "to": "1970-01-01T02:10:00Z",
        "evaluations": 2 * (7200 // 30 + 1),
        "episodes": [
            {
                "alert": "HighErrorRate",
                "labels": {"environment": "production", "service": "k12-core"},
                "pending_at": "1970-01-01T00:10:30Z",
                "fired_at": "1970-01-01T00:10:30Z",
                "resolved_at": "1970-01-01T00:17:30Z",
                "value": 0.1,
            }
        ],
    }


def test_no_events_no_evaluations():
    assert backtest(connect(), catalogue()).as_json() == {
        "from": None,
        "to": None,
        "evaluations": 0,
        "episodes": [],
    }


def test_from_and_to_are_honoured_and_windows_still_look_back():
    connection = connect(requests(30, status=500))
    report = backtest(connection, rules("HighErrorRate"), from_us=661 * SECOND, to_us=899 * SECOND)
    assert (report.from_us, report.to_us) == (690 * SECOND, 870 * SECOND)
    assert [(e.fired_at, e.resolved_at) for e in report.episodes] == [(690 * SECOND, None)]


def test_meta_rules_only_when_asked():
    connection = connect(requests(1))
    assert backtest(connection, catalogue()).evaluations == 11 * 241
    everything = backtest(connection, catalogue(), include_meta=True)
    assert everything.evaluations == 14 * 241
    assert [episode.alert for episode in everything.episodes] == ["Watchdog"]


def test_pending_that_never_fired_is_left_out():
    history = at([600], "db.disk", volume="main", used_bytes=81, capacity_bytes=100)
    assert backtest(connect(history), rules("DiskUsage"), to_us=840 * SECOND).episodes == []


def test_a_failing_query_is_reported():
    connection = connect(requests(30, status=500))
    connection.execute("ALTER TABLE events DROP COLUMN http_status")
    report = backtest(connection, rules("HighErrorRate", "AuthFailures"))
    assert [error.alert for error in report.errors] == ["HighErrorRate"]


def test_a_line_with_a_wrong_year_does_not_cost_decades():
    today = 1_700_000_010
    history = [*requests(30, start=today + 1, status=500), *at([5], "log"), *at([4_000_000_000], "log")]
    report = backtest(connect(history), rules("HighErrorRate", "SyncFailures"))
    assert report.evaluations == 2 * ((4_000_000_000 + 7200 - 5) // 30 + 1)
    assert [(e.fired_at // SECOND, (e.resolved_at or 0) // SECOND) for e in report.episodes] == [
        (today + 30, today + 450)
    ]


def test_days_between_events_are_walked_as_long_as_they_matter():
    """An instance of a silent service stays for 24 h, over the border between two days of a long history."""
    start = 90_000 * 60
    history = [
        *requests(30, start=start + 1, status=500),
        *at([start], "log.heartbeat"),
        *at([start + 10**8], "log"),
    ]
    (episode,) = backtest(connect(history), rules("HighErrorRate")).episodes
    assert (episode.resolved_at or 0) // SECOND == start + 30 + 86_400 + 120
