"""How time is taken: wall and CPU seconds of processes and calls, the best of alternating runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: The installed command of the environment that runs the benchmarks.
TOCSIN = str(Path(sys.executable).with_name("tocsin"))


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds on the wall, and seconds of CPU over all threads: far apart on busy machines."""

    wall_s: float
    cpu_s: float

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


def process(arguments: Sequence[str | Path], stdout: int = subprocess.PIPE) -> tuple[Timing, str]:
    """Runs a process to its end, interpreter start included; answers its time and what it printed.

    Raises RuntimeError with its stderr when it fails.
    """
    command = [str(argument) for argument in arguments]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True) as child:
        output, errors = _read(child)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{errors}")
    return Timing(wall_s, usage.ru_utime + usage.ru_stime), output or errors


def _read(child: subprocess.Popen[str]) -> tuple[str, str]:
    """What the child prints: little, so that one pipe after the other cannot block it."""
    output = child.stdout.read() if child.stdout else ""
    return output, child.stderr.read() if child.stderr else ""


def call(work: Callable[[], object]) -> Timing:
    """The time of one call in this process."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def alternate(contestants: Mapping[str, Callable[[], Timing]], runs: int) -> dict[str, Timing]:
    """Runs every contestant in turn, ``runs`` times; answers the fastest run of each.

    In turn, so that a neighbour's busy minute meets all of them.
    """
    taken: dict[str, list[Timing]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, contestant in contestants.items():
            taken[name].append(contestant())
    return {name: min(timings, key=lambda timing: timing.wall_s) for name, timings in taken.items()}
