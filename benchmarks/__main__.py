"""``python -m benchmarks``: measures, prints tables or JSON, and on request writes ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.backtest import replaying
from benchmarks.canonical import ingesting, on_disk, querying
from benchmarks.emitting import emitting
from benchmarks.live import idling, serving_lines, telling
from benchmarks.rails import loading
from benchmarks.report import Section
from benchmarks.requests import answering
from benchmarks.workspace import Workspace

BENCHMARKS: dict[str, Callable[[Workspace], list[Section]]] = {
    "ingest": ingesting,
    "disk": on_disk,
    "query": querying,
    "rails": loading,
    "backtest": replaying,
    "emit": emitting,
    "requests": answering,
    "serve": serving_lines,
    "tell": telling,
    "idle": idling,
}


def main() -> None:
    """Runs the chosen benchmarks."""
    options = _options()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder, console.status("") as status:
        circumstances = _circumstances(options, Path(folder))
        workspace = Workspace(Path(folder), options.lines, options.runs, status.update)
        sections = [section for name in options.only for section in BENCHMARKS[name](workspace)]
    circumstances["load average, 1 minute"] += f" before, {os.getloadavg()[0]:.1f} after"
    if options.json:
        print(json.dumps({"run": circumstances, "sections": [s.as_json() for s in sections]}, indent=2))
    else:
        terminal = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        terminal.print("\n".join(f"{name}: {value}" for name, value in circumstances.items()), style="dim")
        report.tables(sections, terminal)
    if options.write:
        report.replace_measured(options.write, report.markdown(sections, circumstances))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*BENCHMARKS], help="one benchmark; may be given again"
    )
    parser.add_argument(
        "--lines", type=int, default=1_000_000, help="canonical lines; the rest scales [1000000]"
    )
    parser.add_argument(
        "--runs", type=int, default=3, help="runs of each contestant, of which the best counts [3]"
    )
    parser.add_argument("--machine", default=f"{os.cpu_count()} cores", help="what to call this machine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the tables into docs/benchmarks.md")
    options = parser.parse_args()
    options.only = options.only or [*BENCHMARKS]
    return options


def _circumstances(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """What a reader needs to judge the figures."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{options.machine}, {memory_bytes / 2**30:.0f} GB, files on {_filesystem(folder)}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *map(_version, ("tocsin", "duckdb", "orjson", "chdb"))]
        ),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "each figure": f"the best of {options.runs} alternating runs",
        "load average, 1 minute": f"{os.getloadavg()[0]:.1f}",
    }


def _filesystem(folder: Path) -> str:
    """The kind of file system, because on tmpfs nothing is durable."""
    command = ["df", "--output=fstype", str(folder)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.split()[-1] if asked.returncode == 0 else "an unknown file system"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


if __name__ == "__main__":
    main()
