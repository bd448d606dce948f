"""A day of a platform through the rules: the real command, one query a rule and instant, and one scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.day import FIXED_LINES, day
from benchmarks.lines import write
from benchmarks.measure import TOCSIN, Timing, alternate, call, process
from benchmarks.report import Section, seconds
from benchmarks.workspace import Workspace, ingest
from tocsin_server.clock import SECOND_US
from tocsin_server.evaluate import advance
from tocsin_server.query import STEP_US, Grid
from tocsin_server.resources import alert_rules
from tocsin_server.rules.load import load_rules
from tocsin_server.store import Store

#: The order's seven.
_SEVEN = (
    "HighErrorRate",
    "SlowResponses",
    "JobQueueDepth",
    "AIGatewayDown",
    "SyncFailures",
    "AuthFailures",
    "DiskUsage",
)
#: Instants for which the peer really asks.
_SAMPLED = 10

#: Reads, of every event, what a rule could ask for.
_SCAN = (
    "SELECT name, service, environment, count(*), max(http_status), max(duration_ms), max(ts)"
    " FROM events GROUP BY ALL"
)


def replaying(workspace: Workspace) -> list[Section]:
    """``tocsin backtest`` over the data folder."""
    count = max(workspace.count * 29 // 10, FIXED_LINES)
    data, rules = _data(workspace, count), _seven(workspace.folder / "rules")
    reports: dict[str, dict[str, Any]] = {}

    def ours(name: str, *options: str | Path) -> Timing:
        workspace.say(f"tocsin backtest, {name}")
        timing, output = process([TOCSIN, "backtest", "--data", data, "--json", *options])
        reports[name] = json.loads(output)
        return timing

    contestants = {
        "seven": lambda: ours("seven", "--rules", rules),
        "all": lambda: ours("all", "--rules", alert_rules()),
        "scan": lambda: call(lambda: Store.open(data).connect().execute(_SCAN).fetchall()),
    }
    best = alternate(contestants, workspace.runs)
    evaluations = {name: int(report["evaluations"]) for name, report in reports.items()}
    workspace.say("one query a rule and instant, sampled")
    asked = _one_query_each(data, rules, evaluations["seven"] // len(_SEVEN))
    every_rule = evaluations["all"] * len(_SEVEN) // evaluations["seven"]
    rows = [
        seconds("tocsin backtest --json, the seven rules", "tocsin", best["seven"]),
        seconds(f"tocsin backtest --json, all {every_rule} shipped rules", "tocsin", best["all"]),
        seconds("one query a rule and instant, extrapolated", "peer", asked),
        seconds("one scan of the columns that rules read", "limit", best["scan"]),
    ]
    notes = [
        f"{evaluations['seven']:,} evaluations found {len(reports['seven']['episodes'])} episodes.",
        f"The extrapolation: {_SAMPLED} instants spread over the day, seven rules each, times all instants.",
    ]
    return [Section(f"Backtest of a day of {count:,} events", "s", False, rows, "≤ 5", notes)]


def _data(workspace: Workspace, count: int) -> Path:
    """A data folder with the day, loaded by the real command."""
    file, data = workspace.folder / "day.log", workspace.folder / "day-data"
    workspace.say(f"writing a day of {count:,} lines")
    write(file, day(count))
    workspace.say("loading the day")
    ingest(file, data, count)
    file.unlink()
    return data


def _seven(folder: Path) -> Path:
    """A rules folder with the seven of the shipped catalogue."""
    found: list[dict[str, Any]] = []
    for path in sorted(alert_rules().glob("*.yaml")):
        found += [alert for alert in yaml.safe_load(path.read_text())["alerts"] if alert["alert"] in _SEVEN]
    if len(found) != len(_SEVEN):
        raise RuntimeError(
            f"the shipped catalogue has {[alert['alert'] for alert in found]}, not {list(_SEVEN)}"
        )
    folder.mkdir()
    (folder / "seven.yaml").write_text(yaml.safe_dump({"alerts": found}, sort_keys=False))
    return folder


def _one_query_each(data: Path, rules: Path, instants: int) -> Timing:
    """What a day would take when every rule asks at every instant, from a sample of the instants."""
    connection, loaded = Store.open(data).connect(), load_rules([rules])
    first, last = connection.execute("SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM events").fetchall()[0]
    distance = (last - first) // _SAMPLED // (60 * SECOND_US) * 2 * STEP_US
    start = first // STEP_US * STEP_US + distance
    total = Timing(0, 0)
    for at in range(start, start + _SAMPLED * distance, distance):
        total += call(lambda at=at: advance(connection, loaded, {}, Grid(at, at)))  # type: ignore[misc]  # bound now
    scale = instants / _SAMPLED
    return Timing(total.wall_s * scale, total.cpu_s * scale)
