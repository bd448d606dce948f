"""What an observer adds to each request of a web application, in CPU time."""

from __future__ import annotations

import sys
from functools import partial

from benchmarks.applications import BURST, CONTESTANTS, WARM_UP, Contestant
from benchmarks.emitting import Measured, cheapest, installed_version, labelled, lines_to_file
from benchmarks.measure import Timing
from benchmarks.report import Row, Section
from benchmarks.workspace import Workspace

_AIMS = {"FastAPI": "at most half of the instrumentator's, a tenth of OpenTelemetry's"}


def answering(workspace: Workspace) -> list[Section]:
    """One section a framework: the CPU time of a request with the observer, less that of the bare one."""
    requests = max(workspace.count // 100 // BURST, 4) * BURST
    return [
        _section(workspace, framework, contestants, requests)
        for framework, contestants in CONTESTANTS.items()
    ]


def _section(
    workspace: Workspace, framework: str, contestants: dict[str, Contestant], requests: int
) -> Section:
    measured = _measure(workspace, contestants, requests)
    (bare,) = (name for name, contestant in contestants.items() if contestant.role == "limit")
    bare_us = measured[bare]["cpu_s"] / requests * 1e6
    rows = []
    for name, contestant in contestants.items():
        if name != bare:
            rows.append(_row(contestant, measured.get(name), requests, bare_us))
    version = installed_version(framework.lower())
    notes = [
        f"{framework} {version} itself: {bare_us:.1f} µs a request, called in process, without a server. "
        f"{requests:,} requests in bursts of {BURST}, flushed."
    ]
    return Section(
        f"Added to a {framework} request", "µs of CPU", False, rows, _AIMS.get(framework, ""), notes
    )


def _measure(workspace: Workspace, contestants: dict[str, Contestant], requests: int) -> dict[str, Measured]:
    """The cheapest run of each observer that is installed."""

    def contest(name: str) -> Measured:
        workspace.say(f"requests {name}")
        command = [sys.executable, "-m", "benchmarks.applications", name, str(requests)]
        measured, lines = lines_to_file(command, workspace.folder)
        expected = contestants[name].lines * (requests + WARM_UP)
        if lines != expected:
            raise RuntimeError(f"{name} printed {lines} lines where {expected} were due")
        return measured

    installed = {
        name: partial(contest, name)
        for name, contestant in contestants.items()
        if contestant.package is None or installed_version(contestant.package)
    }
    return cheapest(installed, workspace.runs)


def _row(contestant: Contestant, found: Measured | None, requests: int, bare_us: float) -> Row:
    label = labelled(contestant.label, contestant.package)
    if found is None:
        return Row(label, contestant.role, None)
    added_us = found["cpu_s"] / requests * 1e6 - bare_us
    return Row(label, contestant.role, added_us, Timing(found["wall_s"], found["cpu_s"]))
