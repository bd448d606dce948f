"""The emitting library inside an application: what one event costs, and what the import costs.

Each emitter runs in a process of its own, ``python -m benchmarks.emitting NAME CALLS``, writing to /dev/null.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import orjson

import tocsin
from benchmarks.measure import Timing, alternate, process
from benchmarks.report import Role, Row, Section
from benchmarks.workspace import Workspace
from tocsin.events import EVENTS

_FIELDS = dict(EVENTS["api.request"].example)

_EMITTERS: dict[str, tuple[str, Role]] = {
    "tocsin": ("tocsin.emit of an api.request", "tocsin"),
    "logging": ("logging, formatter with json.dumps", "peer"),
    "orjson": ("orjson.dumps and os.write, nothing else", "peer"),
}
_MODULES = ("tocsin", "logging", "orjson")
_TIMED_IMPORT = """
import time
wall_s, cpu_s = time.perf_counter(), time.process_time()
import {}
print(time.perf_counter() - wall_s, time.process_time() - cpu_s)
"""


def emitting(workspace: Workspace) -> list[Section]:
    """Microseconds a call, the median and one in a hundred; milliseconds of ``import tocsin``."""
    calls = max(workspace.count // 5, 1000)
    spread: dict[tuple[str, float], dict[str, float]] = {}

    def run(name: str) -> Timing:
        workspace.say(f"emitter {name}")
        timing, output = process(
            [sys.executable, "-m", "benchmarks.emitting", name, str(calls)], stdout=subprocess.DEVNULL
        )
        spread[name, timing.wall_s] = json.loads(output)
        return timing

    best = alternate({name: partial(run, name) for name in _EMITTERS}, workspace.runs)

    def rows(quantile: str) -> list[Row]:
        values = {name: spread[name, timing.wall_s][quantile] for name, timing in best.items()}
        return [
            Row(label, role, values[name], best[name] if quantile == "p50" else None)
            for name, (label, role) in _EMITTERS.items()
        ]

    return [
        Section(f"One emitted event, median of {calls:,}", "µs", False, rows("p50")),
        Section("One emitted event, 99th percentile", "µs", False, rows("p99")),
        _importing(workspace),
    ]


def _importing(workspace: Workspace) -> Section:

    def run(module: str) -> Timing:
        wall_s, cpu_s = process([sys.executable, "-c", _TIMED_IMPORT.format(module)])[1].split()
        return Timing(float(wall_s), float(cpu_s))

    workspace.say("imports")
    best = alternate({module: partial(run, module) for module in _MODULES}, workspace.runs)
    rows = [
        Row(f"import {module}", "tocsin" if module == "tocsin" else "peer", best[module].wall_s * 1000)
        for module in _MODULES
    ]
    return Section("Import, in a new process", "ms", False, rows)


# --- the process of one emitter ---


def _emit_with_tocsin() -> Callable[[], None]:
    tocsin.configure(service="k12-core", environment="production")
    return lambda: tocsin.emit("api.request", **_FIELDS)


def _emit_with_logging() -> Callable[[], None]:
    class JsonFormatter(logging.Formatter):
        """What people write when they want JSON lines."""

        def format(self, record: logging.LogRecord) -> str:
            line = {"metric": record.getMessage(), "tags": record.__dict__["tags"], "timestamp": _now()}
            return json.dumps(line | {"service": "k12-core", "environment": "production"})

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("metrics")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return lambda: logger.info("api.request", extra={"tags": _FIELDS})


def _emit_with_orjson() -> Callable[[], None]:
    def emit() -> None:
        line = {
            "metric": "api.request",
            "tags": _FIELDS,
            "timestamp": _now(),
            "service": "k12-core",
            "environment": "production",
        }
        os.write(1, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    return emit


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


_MAKERS = {"tocsin": _emit_with_tocsin, "logging": _emit_with_logging, "orjson": _emit_with_orjson}


def main(name: str, calls: int) -> None:
    """Emits ``calls`` lines to standard output and prints the quantiles, in µs, to standard error."""
    emit, clock = _MAKERS[name](), time.perf_counter_ns
    for _ in range(1000):
        emit()
    taken = []
    for _ in range(calls):
        started = clock()
        emit()
        taken.append(clock() - started)
    taken.sort()
    quantiles = {"p50": taken[calls // 2] / 1000, "p99": taken[calls * 99 // 100] / 1000}
    print(json.dumps(quantiles), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
