"""For whom: tenants and users behind what an alert counts as bad."""

from __future__ import annotations

from typing import Any

import pytest
from histories import SECOND, Event, at, connect, rules

from tocsin_server.impact import Affected, affected

CORE = {"service": "k12-core", "environment": "production"}


def impact(events: list[Event], alert: str, labels: dict[str, str] = CORE, end: int = 900) -> Affected:
    with connect({**event, "event_id": str(i)} for i, event in enumerate(events)) as connection:
        return affected(connection, rules(alert)[0], labels, 600 * SECOND, end * SECOND)


def request(t: float, tenant: str | None, status: int = 500, **fields: Any) -> Event:
    return next(at([t], "api.request", tenant_id=tenant, http_status=status, duration_ms=40.0, **fields))


def test_only_bad_events_of_the_instance_in_the_window_count() -> None:
    events = [
        request(600, "at the left edge"),
        request(601, "7", user_id="u_1"),
        request(602, "7", user_id="u_2"),
        request(603, "12", user_id="u_1"),
        request(604, "13", status=200),
        request(605, "14", path="/up"),
        request(606, "15", service="k12-web"),
        request(900, "16"),
        request(901, "too late"),
    ]
    found = impact(events, "HighErrorRate")
    assert found == Affected(("7", "12", "16"), 3, ("u_1", "u_2"), 2, "")


def test_slow_requests() -> None:
    events = [request(601, "7", 200) | {"duration_ms": 2500.0}, request(602, "8", 200)]
    assert impact(events, "SlowResponses").tenants == ("7",)


def test_ids_are_capped_and_counts_are_not() -> None:
    events = [request(601 + i, f"t{i % 70:02d}", user_id=f"u_{i}") for i in range(140)]
    found = impact(events, "HighErrorRate")
    assert (len(found.tenants), found.tenant_count, len(found.users), found.user_count) == (50, 70, 20, 140)


def test_without_a_tenant_the_request_log_answers() -> None:
    logged = at([601, 602], "http.request", tenant_id="7", user_id="u_1", http_status=500)
    events = [request(601, None), *logged, *at([603], "http.request", tenant_id="9", http_status=200)]
    events += at([604], "http.request", tenant_id="10", http_status=500, service="k12-web")
    found = impact(events, "HighErrorRate")
    assert (found.tenants, found.users) == (("7",), ("u_1",))
    assert "request log" in found.approximate


def test_without_a_tenant_the_slow_lines_of_the_request_log_answer() -> None:
    slow = at([601], "http.request", tenant_id="7", http_status=200, duration_ms=2500.0)
    fast = at([601], "http.request", tenant_id="8", http_status=500, duration_ms=10.0)
    assert impact([*slow, *fast], "SlowResponses").tenants == ("7",)


@pytest.mark.parametrize(
    ("alert", "name", "bad"),
    [
        ("AuthFailures", "auth.login", {"status": "failure"}),
        ("SyncFailures", "sync.run", {"status": "error", "run_id": "r"}),
    ],
)
def test_counts_and_different_values(alert: str, name: str, bad: dict[str, str]) -> None:
    events = [*at([601], name, tenant_id="7", **bad), *at([602], name, tenant_id="8", status="success")]
    assert impact(events, alert, {"environment": "production"}) == Affected(("7",), 1)


@pytest.mark.parametrize("alert", ["DiskUsage", "AIGatewayDown", "JobMissing", "Watchdog"])
def test_what_counts_no_events_of_people_says_so(alert: str) -> None:
    assert impact([request(601, "7")], alert) == Affected(approximate="the rule counts no events of people")


def test_an_overflow_instance_stands_for_all_labels() -> None:
    assert impact([request(601, "7")], "HighErrorRate", {"overflow": "true"}).tenants == ("7",)
