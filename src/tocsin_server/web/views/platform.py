"""How the platform does in a time range: one card per area, requests over time, tenants with failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.rules import Rule
from tocsin_server.web.areas import AREAS, Area, example_line
from tocsin_server.web.charts import Buckets, chart, segments
from tocsin_server.web.filters import explore_url
from tocsin_server.web.params import TimeRange, moment
from tocsin_server.web.wording import lasting, number_text

#: "For whom" looks back so far.
AFFECTED_US = 15 * 60 * SECOND_US
_SHOWN = 10

#: (event, bucket) -> (events, failed ones, newest time in µs)
Counts = dict[tuple[str, int], tuple[int, int, int]]


def measures(
    connection: duckdb.DuckDBPyConnection,
    span: TimeRange,
    alerts: Sequence[Mapping[str, Any]],
    rules: Mapping[str, Rule],
) -> dict[str, Any]:
    """``heard``, ``areas``, ``charts`` and ``tenants`` of a page."""
    buckets = Buckets.of(span)
    counts = _counts(connection, span, buckets)
    heard = {bucket for _, bucket in counts}
    return {
        "heard": bool(counts),
        "areas": [_card(connection, area, span, buckets, counts, heard, alerts, rules) for area in AREAS],
        "charts": _charts(connection, span, buckets, counts, heard, rules),
        "tenants": _tenants(connection, TimeRange(span.to_us - AFFECTED_US, span.to_us)),
    }


def _counts(connection: duckdb.DuckDBPyConnection, span: TimeRange, buckets: Buckets) -> Counts:
    rows = connection.execute(
        f"SELECT name, {buckets.sql} AS bucket, count(*), "
        "count(*) FILTER (WHERE status IN ('error', 'failure')), epoch_us(max(ts)) FROM events "
        "WHERE ts > make_timestamptz(?) AND ts <= make_timestamptz(?) GROUP BY ALL",
        [span.from_us, span.to_us],
    ).fetchall()
    return {(name, bucket): (count, failed, newest) for name, bucket, count, failed, newest in rows}


def _card(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    span: TimeRange,
    buckets: Buckets,
    counts: Counts,
    heard: set[int],
    alerts: Sequence[Mapping[str, Any]],
    rules: Mapping[str, Rule],
) -> dict[str, Any]:
    mine = {bucket: found for (name, bucket), found in counts.items() if name == area.event}
    total, failed = sum(one[0] for one in mine.values()), sum(one[1] for one in mine.values())
    heard_us = max((one[2] for one in mine.values()), default=None)
    line = buckets.dense({b: mine[b][0] if b in mine else 0 for b in heard}) if mine else []
    whole = line[:-1] if buckets.incomplete() else line
    where = [f"name={area.event}"]
    return {
        "title": area.title,
        "event": area.event,
        "state": _state_of(area, bool(mine), alerts, rules),
        "last_heard": None if heard_us is None else iso(heard_us),
        "ago": None if heard_us is None else lasting(span.to_us - heard_us),
        "figure": (area.gauge(connection, span) if area.gauge and mine else ""),
        "count": total,
        "unit": area.unit,
        "failed": None if area.gauge else failed,
        "url": explore_url(span, where),
        "failed_url": explore_url(span, [*where, f"status={area.failed}"]),
        "sparkline": segments(whole, max([one or 0 for one in whole], default=0) or 1, 120, 24),
        "fill": "" if mine else example_line(area.event),
    }


def _state_of(area: Area, heard: bool, alerts: Sequence[Mapping[str, Any]], rules: Mapping[str, Rule]) -> str:
    states = {
        one["state"]
        for one in alerts
        if (rule := rules.get(one["alert"])) and getattr(rule.condition, "event", None) == area.event
    }
    for state in ("firing", "pending"):
        if state in states:
            return state
    return "ok" if heard else "no data"


def _charts(
    connection: duckdb.DuckDBPyConnection,
    span: TimeRange,
    buckets: Buckets,
    counts: Counts,
    heard: set[int],
    rules: Mapping[str, Rule],
) -> list[dict[str, Any]]:
    requests = {b: found for (name, b), found in counts.items() if name == "api.request"}
    minutes = buckets.width / (60 * SECOND_US)
    rate = {b: requests[b][0] / minutes if b in requests else 0 for b in heard} if requests else {}
    share = {b: 100 * failed / total for b, (total, failed, _) in requests.items()}
    where, ends = ["name=api.request"], [one.to_us for one in buckets.spans()]
    urls = [explore_url(one, where) for one in buckets.spans()]
    failed_urls = [explore_url(one, [*where, "status=error"]) for one in buckets.spans()]
    common: dict[str, Any] = {
        "incomplete": buckets.incomplete(),
        "marks": _deploys(connection, span),
        "fill": example_line("api.request"),
    }
    errors, slow = _thresholds(rules)
    latency = _latency(connection, span, buckets)
    return [
        chart("Requests", "per minute", ends, {"requests": buckets.dense(rate)}, urls=urls, **common),
        chart(
            "Error ratio",
            "%",
            ends,
            {"failed": buckets.dense(share)},
            urls=failed_urls,
            thresholds=errors,
            **common,
        ),
        chart("Latency", "ms", ends, latency, urls=urls, thresholds=slow, **common),
    ]


def _latency(
    connection: duckdb.DuckDBPyConnection, span: TimeRange, buckets: Buckets
) -> dict[str, list[float | int | None]]:
    rows = connection.execute(
        f"SELECT {buckets.sql} AS bucket, quantile_disc(duration_ms, [0.5, 0.95, 0.99]) FROM events "
        "WHERE name = 'api.request' AND duration_ms IS NOT NULL "
        "AND ts > make_timestamptz(?) AND ts <= make_timestamptz(?) GROUP BY bucket",
        [span.from_us, span.to_us],
    ).fetchall()
    names = ("p50", "p95", "p99")
    return {name: buckets.dense({b: found[i] for b, found in rows}) for i, name in enumerate(names)}


def _thresholds(rules: Mapping[str, Rule]) -> tuple[dict[str, float], dict[str, float]]:
    """The bounds of the alerts on requests: of their error ratio in percent, of their latency in ms."""
    errors, slow = {}, {}
    for rule in rules.values():
        ratio, fraction = rule.when.ratio, rule.when.fraction
        if ratio is not None and ratio.event == "api.request":
            errors[f"{rule.title or rule.alert}: over {100 * float(ratio.above):g} %"] = 100 * float(
                ratio.above
            )
        if fraction is not None and fraction.event == "api.request" and fraction.of == "duration_ms":
            slow[f"{rule.title or rule.alert}: p95 over {fraction.bound:g} ms"] = fraction.bound
    return errors, slow


def _deploys(connection: duckdb.DuckDBPyConnection, span: TimeRange) -> list[dict[str, str]]:
    rows = connection.execute(
        "SELECT epoch_us(ts), service, attrs->>'$.version' FROM events WHERE name = 'deploy' "
        "AND ts > make_timestamptz(?) AND ts <= make_timestamptz(?) ORDER BY ts DESC LIMIT 20",
        [span.from_us, span.to_us],
    ).fetchall()
    return [
        {"at": moment(at_us), "text": " ".join(filter(None, ("deploy", service, version)))}
        for at_us, service, version in rows
    ]


def _tenants(connection: duckdb.DuckDBPyConnection, span: TimeRange) -> dict[str, Any]:
    """Tenants with failed events; requests are counted once, from the lines that name a tenant."""
    rows = connection.execute(
        "SELECT tenant_id, name, count(*) AS total, "
        "count(*) FILTER (WHERE status IN ('error', 'failure')) AS failed FROM events "
        "WHERE tenant_id IS NOT NULL AND name <> 'log' "
        "AND ts > make_timestamptz(?) AND ts <= make_timestamptz(?) GROUP BY ALL "
        "ORDER BY failed DESC, total DESC, tenant_id",
        [span.from_us, span.to_us],
    ).fetchall()
    if any(name == "api.request" for _, name, _, _ in rows):
        rows = [row for row in rows if row[1] != "http.request"]
    failing = [row for row in rows if row[3]]
    return {
        "range": span.as_json(),
        "of": len({row[0] for row in rows}),
        "affected": len({row[0] for row in failing}),
        "rows": [_tenant(span, *row) for row in failing[:_SHOWN]],
        "more": max(0, len(failing) - _SHOWN),
        "fill": "" if rows else example_line("api.request"),
    }


def _tenant(span: TimeRange, tenant: str, name: str, total: int, failed: int) -> dict[str, Any]:
    where = [f"tenant_id={tenant}", f"name={name}"]
    return {
        "tenant": tenant,
        "event": name,
        "failed": failed,
        "total": total,
        "share": f"{number_text(100 * failed / total)} %",
        "url": explore_url(span, where),
        "failed_url": explore_url(span, [*where, "status=error", "status=failure"]),
    }
