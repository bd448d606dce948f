"""The running server: how fast lines are durable, how soon somebody is told, what it costs to do nothing."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks import serving
from benchmarks.lines import School
from benchmarks.measure import Timing
from benchmarks.report import Row, Section
from benchmarks.workspace import Workspace
from tocsin_server.notify.receivers import Received, WebhookReceiver
from tocsin_server.resources import alert_rules

#: Lines of a batch, connections, and how long they send, in seconds.
_BATCH, _SENDERS, _SENDING_S = 200, 4, 10.0
#: Load while alerts are timed: lines a second, and how it is cut.
_LOAD, _LOAD_BATCH = 2000, 100
#: Alerts of one run: each is a group of its own, and a channel has fifteen, one of them the Watchdog's.
_MARKERS = 12
_INTERVAL_S = 30.0
_IDLE_SETTLE_S, _IDLE_S = 20.0, 60.0
_MIB = 1 << 20

_RULES = """\
alerts:
  - alert: Marker
    severity: critical
    when: {count: {event: marker, above: 0, over: 1m}}
    by: [service]
"""


def serving_lines(workspace: Workspace) -> list[Section]:
    """Acknowledged lines a second, and the slowest one in a hundred acknowledgements."""
    bodies = _bodies(_BATCH)
    figures: dict[str, tuple[float, float, Timing]] = {}
    for name, start in (("tocsin", serving.tocsin), ("writer", serving.writer)):
        workspace.say(f"{name}: lines over HTTP")
        with workspace.empty_folder() as folder, start(folder) as server:
            serving.saturate(server, bodies, _SENDERS, 1.0)
            before = server.cpu_s
            latencies, wall_s = serving.saturate(server, bodies, _SENDERS, _SENDING_S)
            rate = len(latencies) * _BATCH / wall_s
            figures[name] = (rate, _at(latencies, 0.99) * 1000, Timing(wall_s, server.cpu_s - before))
    limit = _syncing(workspace, bodies)
    names = {
        "tocsin": "tocsin up, POST /api/v1/ingest",
        "writer": "the same web server, write + fdatasync only",
    }
    note = (
        f"{_SENDERS} connections, batches of {_BATCH} canonical lines; an answer says that they are on disk."
    )
    rates = [
        Row(names["tocsin"], "tocsin", figures["tocsin"][0], figures["tocsin"][2]),
        Row(names["writer"], "peer", figures["writer"][0], figures["writer"][2]),
        Row("write + fdatasync of the same bodies, one after the other", "limit", limit),
    ]
    slow = [
        Row(names["tocsin"], "tocsin", figures["tocsin"][1]),
        Row(names["writer"], "peer", figures["writer"][1]),
    ]
    return [
        Section("Durable lines over HTTP", "lines a second", True, rates, "20,000 on one core", [note]),
        Section("Acknowledgement under that load, p99", "ms", False, slow, "50"),
    ]


def telling(workspace: Workspace) -> list[Section]:
    """Seconds from a line's acknowledgement to the notification at the receiver, at 2,000 lines a second."""
    delays: list[float] = []
    for run in range(max(1, workspace.runs - 1)):
        workspace.say(f"alerts under load, run {run + 1}")
        delays += _told(workspace)
    grid = _INTERVAL_S + 3.0
    rows = [
        Row("slowest of all", "tocsin", max(delays)),
        Row("the 30 s interval and the 3 s for late lines alone, at worst", "limit", grid),
    ]
    middle = [
        Row("median", "tocsin", _at(delays, 0.5)),
        Row("half the interval and 3 s", "limit", _INTERVAL_S / 2 + 3.0),
    ]
    note = f"{len(delays)} critical alerts with `for: 0`, at random moments, {_LOAD:,} other lines a second."
    return [
        Section("From a line to a notification", "seconds", False, rows, "38 (interval + 8) at p99", [note]),
        Section("From a line to a notification, median", "seconds", False, middle),
    ]


def idling(workspace: Workspace) -> list[Section]:
    """Memory and CPU of a server that has nothing to do."""
    figures = {}
    for name, start in (("tocsin", serving.tocsin), ("writer", serving.writer)):
        workspace.say(f"{name}: doing nothing for {_IDLE_S:.0f} s")
        with workspace.empty_folder() as folder, start(folder) as server:
            time.sleep(_IDLE_SETTLE_S)
            before = server.cpu_s
            time.sleep(_IDLE_S)
            figures[name] = (server.rss_bytes / _MIB, 100 * (server.cpu_s - before) / _IDLE_S)
    peer = "a bare uvicorn application"
    return [
        Section(
            "Idle server, resident memory",
            "MiB",
            False,
            [Row("tocsin up", "tocsin", figures["tocsin"][0]), Row(peer, "peer", figures["writer"][0])],
            "150",
        ),
        Section(
            "Idle server, CPU",
            "% of a core",
            False,
            [Row("tocsin up", "tocsin", figures["tocsin"][1]), Row(peer, "peer", figures["writer"][1])],
            "1",
        ),
    ]


def _bodies(lines: int) -> list[bytes]:
    school = [orjson.dumps(line) + b"\n" for line in School().lines(lines * 50)]
    return [b"".join(school[at : at + lines]) for at in range(0, len(school), lines)]


def _syncing(workspace: Workspace, bodies: list[bytes]) -> float:
    with workspace.empty_folder() as folder:
        fd = os.open(folder / "lines", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < 2.0:
            os.write(fd, bodies[count % len(bodies)])
            os.fdatasync(fd)
            count += 1
        os.close(fd)
        return count * _BATCH / (time.perf_counter() - started)


def _told(workspace: Workspace) -> list[float]:
    sent: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def note(received: Received) -> None:
        for alert in received.body["alerts"]:
            arrived.setdefault(alert["labels"].get("service", ""), time.monotonic())

    with (
        WebhookReceiver(on_message=note) as receiver,
        workspace.empty_folder() as folder,
    ):
        _prepare(folder, receiver.url)
        with serving.tocsin(folder) as server:
            stop = threading.Event()
            load = threading.Thread(target=_load, args=(server, stop))
            load.start()
            connection = server.connection()
            try:
                time.sleep(5.0)
                for number in range(_MARKERS):
                    serving.post(connection, _marker(f"marker-{number}"))
                    sent[f"marker-{number}"] = time.monotonic()
                    time.sleep(_INTERVAL_S / _MARKERS * 1.07)  # all over the interval, not in step with it
                serving.wait(lambda: sent.keys() <= arrived.keys())
            finally:
                stop.set()
                load.join()
                connection.close()
    return [arrived[name] - sent[name] for name in sent]


def _prepare(folder: Path, url: str) -> None:
    rules = folder / "ops" / "alerts"
    shutil.copytree(alert_rules(), rules)
    (rules / "marker.yaml").write_text(_RULES)
    settings = {"channels": {"bench": {"webhook": {"url": url}}}, "routes": [{"to": ["bench"]}]}
    (folder / "tocsin.yaml").write_text(json.dumps({"notify": settings}))


def _marker(service: str) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"metric": "marker", "tags": {}, "timestamp": now, "service": service}).encode() + b"\n"


def _load(server: serving.Server, stop: threading.Event) -> None:
    """Lines of now at a steady rate."""
    connection, started, count = server.connection(), time.monotonic(), 0
    while not stop.wait(max(0.0, started + count / _LOAD - time.monotonic())):
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        tags = {"method": "GET", "path": "/api/v1/courses", "status": 200, "duration_ms": 12.5}
        line = {"metric": "api.request", "tags": tags, "timestamp": now, "service": "k12-core"}
        serving.post(connection, (json.dumps(line).encode() + b"\n") * _LOAD_BATCH)
        count += _LOAD_BATCH
    connection.close()


def _at(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[max(0, -(-int(len(values) * share * 1000) // 1000) - 1)]
