"""Why an alert stayed silent: how near its condition came."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pytest

from tocsin_server.backtest import backtest
from tocsin_server.columns import CREATE_EVENTS
from tocsin_server.resources import alert_rules
from tocsin_server.rules import Rule
from tocsin_server.rules.load import load_rules
from tocsin_server.why import Nearest, silent

MINUTE_US = 60_000_000
START_US = 1_795_420_800_000_000


def request(at_us: int, status: int = 200, duration_ms: float = 5.0) -> str:
    values = (
        f"make_timestamptz({START_US + at_us}), {status}, {duration_ms}, 'api.request', 'core', 'production'"
    )
    return f"INSERT INTO events (ts, http_status, duration_ms, name, service, environment) VALUES ({values})"


def why(statements: Iterable[str], rules: list[Rule]) -> dict[str, Nearest]:
    with duckdb.connect() as connection:
        connection.execute(CREATE_EVENTS)
        for statement in statements:
            connection.execute(statement)
        return {one.alert: one for one in silent(connection, rules, backtest(connection, rules))}


@pytest.fixture(scope="module")
def rules() -> list[Rule]:
    return load_rules([alert_rules()])


def test_the_nearest_instant_with_its_numbers(rules: list[Rule]) -> None:
    nearest = why([request(n * 1_000_000, 500 if n < 4 else 200) for n in range(100)], rules)["HighErrorRate"]
    assert nearest.labels == (("environment", "production"), ("service", "core"))
    assert (nearest.value, dict(nearest.numbers)) == (pytest.approx(4 / 31), {"total": 31, "bad": 4})
    assert nearest.at_us == START_US + MINUTE_US // 2
    assert nearest.reason == "stayed below"


def test_a_share_of_too_few_events_is_not_near(rules: list[Rule]) -> None:
    nearest = why([request(n * 1_000_000, 500) for n in range(3)], rules)["HighErrorRate"]
    assert (nearest.reason, dict(nearest.numbers)) == ("too few events", {"total": 3, "bad": 3})


def test_a_condition_that_did_not_hold_long_enough(rules: list[Rule]) -> None:
    slow = [request(n * 1_000_000, duration_ms=3000.0) for n in range(120)]
    nearest = why(slow, rules)["SlowResponses"]
    assert nearest.for_us == 5 * MINUTE_US
    assert nearest.reason == "held for 2m, must hold for 5m"


def test_events_that_never_came(rules: list[Rule]) -> None:
    found = why([request(0)], rules)
    assert found["DiskUsage"].reason == "no events that it looks at"
    assert found["JobMissing"].at_us is None


def test_fired_and_meta_alerts_are_not_explained(rules: list[Rule]) -> None:
    found = why([request(n * 1_000_000, 500) for n in range(60)], rules)
    assert "HighErrorRate" not in found
    assert "Watchdog" not in found


def test_nothing_to_say_without_events(rules: list[Rule]) -> None:
    assert why([], rules) == {}


def test_a_rule_whose_query_fails_says_so(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "alerts:\n  - alert: Broken\n    severity: info\n    by: [service]\n"
        "    when: {sql: {query: 'SELECT service, CAST(name AS INTEGER) AS value FROM events'}}\n"
    )
    assert "its query failed" in why([request(0)], load_rules([path]))["Broken"].condition
