"""The emitting library inside an application: what one event costs, for how long a call holds its caller up,
and what the import costs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.emitters import BURST, CONTESTANTS, WARM_UP, Contestant
from benchmarks.measure import Timing, alternate, process
from benchmarks.report import Row, Section
from benchmarks.workspace import Workspace

#: What a run measured: its seconds, and the rest that its process printed.
Measured = dict[str, float]

_MODULES = ("tocsin", "logging", "orjson", "structlog", "loguru")
_TIMED_IMPORT = """
import sys, threading, time
wall_s, cpu_s = time.perf_counter(), time.process_time()
import {}
print(time.perf_counter() - wall_s, time.process_time() - cpu_s, threading.active_count() - 1)
"""
_AIM = (
    "at most 5 × the limit; structlog at least 2 ×, python-json-logger 4 ×, loguru and OpenTelemetry 8 × ours"
)


def emitting(workspace: Workspace) -> list[Section]:
    """Microseconds of CPU an event; microseconds a call; milliseconds of ``import tocsin``."""
    events = max(workspace.count // 20 // BURST, 4) * BURST
    to_file = _measure(workspace, "cpu", events, lines_to_file)
    to_pipe = _measure(workspace, "cpu", events, lines_to_pipe)
    calls = _measure(workspace, "calls", events, lines_to_file)
    notes = [
        f"{events:,} events in bursts of {BURST}; all threads, until the last byte is written.",
        "Only Tocsin redacts: user ids become pseudonyms, free text is scrubbed, secrets are dropped.",
    ]
    idle = f"Threads before Tocsin's first event, configured: {to_file['tocsin']['threads']:.0f} (aim: 0)."
    return [
        Section("One emitted event, to a file", "µs of CPU", False, _costs(to_file, events), _AIM, notes),
        Section(
            "One emitted event, to a pipe that is read", "µs of CPU", False, _costs(to_pipe, events), _AIM
        ),
        Section(
            "For how long one call holds its caller up, median", "µs", False, _quantiles(calls, "p50"), "3 µs"
        ),
        Section("The same, 99th percentile", "µs", False, _quantiles(calls, "p99"), "60 µs"),
        _importing(workspace, idle),
    ]


def _measure(
    workspace: Workspace, mode: str, events: int, run: Callable[[list[str], Path], tuple[Measured, int]]
) -> dict[str, Measured]:
    """The cheapest run of each library that is installed."""

    def contest(name: str) -> Measured:
        workspace.say(f"emitter {name}, {mode}")
        command = [sys.executable, "-m", "benchmarks.emitters", name, mode, str(events)]
        measured, lines = run(command, workspace.folder)
        if lines != events + WARM_UP:
            raise RuntimeError(f"{name} printed {lines} lines of {events + WARM_UP} events")
        return measured

    installed = {
        name: partial(contest, name)
        for name, contestant in CONTESTANTS.items()
        if contestant.package is None or installed_version(contestant.package)
    }
    return cheapest(installed, workspace.runs, by="cpu_s" if mode == "cpu" else "p50")


def _costs(measured: Mapping[str, Measured], events: int) -> list[Row]:
    return [_cost(contestant, measured.get(name), events) for name, contestant in CONTESTANTS.items()]


def _cost(contestant: Contestant, found: Measured | None, events: int) -> Row:
    label = labelled(contestant.label, contestant.package)
    if found is None:
        return Row(label, contestant.role, None)
    figure_us = found["cpu_s"] / events * 1e6
    return Row(label, contestant.role, figure_us, Timing(found["wall_s"], found["cpu_s"]))


def _quantiles(measured: Mapping[str, Measured], quantile: str) -> list[Row]:
    return [
        Row(
            labelled(contestant.label, contestant.package),
            "peer" if contestant.role == "limit" else contestant.role,
            measured[name][quantile] if name in measured else None,
        )
        for name, contestant in CONTESTANTS.items()
    ]


def _importing(workspace: Workspace, note: str) -> Section:
    threads: list[float] = []

    def run(module: str) -> Timing:
        wall_s, cpu_s, started = process([sys.executable, "-c", _TIMED_IMPORT.format(module)])[1].split()
        if module == "tocsin":
            threads.append(int(started))
        return Timing(float(wall_s), float(cpu_s))

    workspace.say("imports")
    present = [module for module in _MODULES if module in ("tocsin", "logging") or installed_version(module)]
    best = alternate({module: partial(run, module) for module in present}, workspace.runs)
    rows = [
        Row(
            f"import {module}",
            "tocsin" if module == "tocsin" else "peer",
            best[module].wall_s * 1000 if module in best else None,
            best.get(module),
        )
        for module in _MODULES
    ]
    notes = [f"Threads that the import starts: {max(threads):.0f}. {note}"]
    return Section("Import, in a new process", "ms", False, rows, "30 ms", notes)


# --- shared with the benchmark of requests ---


def lines_to_file(command: list[str], folder: Path) -> tuple[Measured, int]:
    """What the process measured, and how many lines it printed to a file."""
    path = folder / "emitted.log"
    with path.open("wb") as file:
        measured = _run(command, file.fileno())
    with path.open("rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(partial(file.read, 1 << 20), b""))
    path.unlink()
    return measured, lines


def lines_to_pipe(command: list[str], _: Path) -> tuple[Measured, int]:
    """The same with a pipe, at whose other end another process reads."""
    with subprocess.Popen(["wc", "-l"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        measured = _run(command, reader.stdin.fileno())
        return measured, int(reader.communicate()[0])


def _run(command: list[str], stdout: int) -> Measured:
    """What it measured is the last JSON on standard error; a library may say something there, too."""
    said = process(command, stdout=stdout)[1].splitlines()
    measured: Measured = json.loads(next(line for line in reversed(said) if line.startswith("{")))
    return measured


def cheapest(
    contestants: Mapping[str, Callable[[], Measured]], runs: int, by: str = "cpu_s"
) -> dict[str, Measured]:
    """Runs every contestant in turn, ``runs`` times; answers of each the run in which ``by`` is smallest."""
    taken: dict[str, list[Measured]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, contestant in contestants.items():
            taken[name].append(contestant())
    return {name: min(measured, key=lambda one: one[by]) for name, measured in taken.items()}


def installed_version(package: str) -> str | None:
    """The version of a distribution; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def labelled(label: str, package: str | None) -> str:
    """What a row is called: with the package's name, if the label does not say it, and its version."""
    if package is None:
        return label
    name = f"{package} {installed_version(package) or ''}".strip()
    return label.replace(package, name, 1) if label.startswith(package) else f"{name}, {label}"
