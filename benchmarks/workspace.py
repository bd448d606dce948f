"""One run: how large, how often, and the temporary folder with what the benchmarks share."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import lines, peers
from benchmarks.measure import TOCSIN, Timing, process
from benchmarks.report import Say

_COUNT_EVENTS = "SELECT count(*) AS n FROM events"


@dataclass
class Workspace:
    """``count`` canonical lines (the other benchmarks scale with it), ``runs`` of each contestant."""

    folder: Path
    count: int
    runs: int
    say: Say

    @cached_property
    def canonical(self) -> Path:
        """The file of canonical lines."""
        self.say(f"writing {self.count:,} canonical lines")
        path = self.folder / "canonical.log"
        lines.write(path, lines.School().lines(self.count))
        return path

    @cached_property
    def store(self) -> Path:
        """A data folder with the canonical lines."""
        data = self.folder / "canonical-data"
        ingest(self.canonical, data, self.count)
        return data

    def peer(self, name: str, file: Path, expected: int, produced_bytes: int = 0) -> Timing:
        """One run of a peer in an empty folder."""
        self.say(name)
        with self.empty_folder() as folder:
            return peers.run(name, file, folder, expected, produced_bytes)

    @contextmanager
    def empty_folder(self) -> Iterator[Path]:
        """A folder for one run."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def ingest(file: Path, data: Path, expected: int) -> Timing:
    """``tocsin ingest`` of a file; raises RuntimeError when the books do not have ``expected`` lines."""
    timing, output = process([TOCSIN, "ingest", file, "--data", data, "--json"])
    books = json.loads(output)
    if books["lines"] != expected:
        raise RuntimeError(f"tocsin ingest counted {books['lines']} of {expected} lines: {books}")
    return timing


def query_count(data: Path, expected: int) -> Timing:
    """``tocsin query`` in a new process; raises RuntimeError when it does not answer ``expected``."""
    timing, output = process([TOCSIN, "query", _COUNT_EVENTS, "--data", data, "--json"])
    found = json.loads(output)[0]["n"]
    if found != expected:
        raise RuntimeError(f"tocsin query found {found} of {expected} events in {data}")
    return timing


def parquet_files(data: Path) -> list[Path]:
    """The events of a data folder."""
    return sorted((data / "events").glob("*/*.parquet"))


def parquet_bytes(data: Path) -> int:
    """Their size."""
    return sum(path.stat().st_size for path in parquet_files(data))
