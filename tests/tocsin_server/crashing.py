"""Runs ``tocsin ingest`` again and again, each time in a process that kills itself at another moment.

    python crashing.py FOLDER ARGUMENTS… < LINES

A moment is a call that makes something durable or removes it: a write to the spool, an ``fsync``, an
``unlink``, a commit of the manifest. Each run that was killed is followed by one that is not. Prints one JSON
line a run.

Processes are forked from this one, which has imported everything and started nothing: a run costs little.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nanoarrow  # noqa: F401 - imported once for all runs

from tocsin_server import cli
from tocsin_server.load import Options
from tocsin_server.sources import files, streams
from tocsin_server.spool import Segment
from tocsin_server.store import Store, manifest

#: Small, so that a small file has many moments.
CHUNK_BYTES = 7_000
SEGMENT_BYTES = 11_000
READ_BYTES = 4_000

BEFORE_A_COMMIT = "before a commit"


def main(folder: Path, arguments: list[str]) -> None:
    """Counts the moments of a whole run, then kills a run at each (or at a sample) of them."""
    counted, report = folder / "counted", folder / "report"
    in_child(lambda: ingest(folder / "whole", arguments, 1 << 30, counted))
    moments = json.loads(counted.read_text())["moments"]
    for moment in sample(moments):
        data = folder / f"killed-{moment}"
        status = in_child(lambda moment=moment, data=data: ingest(data, arguments, moment, counted))
        killed = json.loads(counted.read_text())
        in_child(lambda data=data: recover(data, report))
        recovered = json.loads(report.read_text())
        if arguments != ["-"]:  # what has no name is new each time
            in_child(lambda data=data: ingest_again(data, arguments, counted, report))
        run = {
            "moment": killed["moments"][-1],
            "committed": killed["committed"],
            "signal": os.WTERMSIG(status),
            "recovered": recovered,
            "again": json.loads(report.read_text()),
        }
        print(json.dumps(run), flush=True)


def sample(moments: list[str]) -> list[int]:
    """The numbers of the moments before each commit that publishes something, and of one moment of
    each other kind, in the middle of the run.
    """
    kinds = {kind: [n for n, one in enumerate(moments, 1) if one == kind] for kind in moments}
    commits = kinds.pop(BEFORE_A_COMMIT)
    return sorted(commits[1:-1:2] + [numbers[len(numbers) // 2] for numbers in kinds.values()])


def in_child(run: Callable[[], None]) -> int:
    """The wait status of a forked process that does this."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def recover(data: Path, report: Path) -> None:
    """What any command does first."""
    store = Store.create(data)
    with store.writing():
        streams.recover_spool(store, Options())
    look(store, report)


def ingest_again(data: Path, arguments: list[str], counted: Path, report: Path) -> None:
    ingest(data, arguments, 1 << 30, counted)
    look(Store.open(data), report)


def look(store: Store, report: Path) -> None:
    """Writes ids and texts of the events, the dead letters, files that nothing names, the spool's size."""
    rows = store.connect(threads=1).execute("SELECT event_id, message FROM events ORDER BY ALL").fetchall()
    letters = sorted((one.position, one.line.decode()) for one in store.manifest.dead_letters(limit=1000))
    strangers = {path for path in store.events.rglob("*") if path.is_file()} ^ set(store.paths())
    spool = len(list(store.spool.iterdir()))
    report.write_text(json.dumps([rows, letters, [str(path) for path in strangers], spool]))


def ingest(data: Path, arguments: list[str], moment: int, counted: Path) -> None:
    """One run that is killed at a moment."""
    moments: list[str] = []
    committed = appended = 0
    write = os.write
    record = os.open(counted, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)

    def note() -> None:
        about = {"moments": moments, "committed": committed}
        os.ftruncate(record, 0)
        os.pwrite(record, json.dumps(about).encode(), 0)

    def tick(what: str) -> None:
        moments.append(what)
        note()
        if len(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(name: str) -> None:
        call = getattr(os, name)

        def counting(*rest: Any, **named: Any) -> Any:
            tick(name)
            return call(*rest, **named)

        setattr(os, name, counting)

    def half_a_write(fd: int, batch: Any) -> int:
        """Cuts each write, so that the process can die between the halves."""
        tick("write")
        return write(fd, bytes(batch)[: max(1, len(batch) // 2)])

    append, commit = Segment.append, Segment.commit

    def append_and_count(segment: Segment, batch: Any) -> None:
        nonlocal appended
        append(segment, batch)
        appended += len(batch.data)

    def commit_and_note(segment: Segment) -> None:
        nonlocal committed
        commit(segment)
        committed = appended
        note()

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *parameters)
            tick(BEFORE_A_COMMIT)
            cursor = super().execute(sql, *parameters)
            tick("after a commit")
            return cursor

    connect = sqlite3.connect
    manifest.sqlite3.connect = lambda *rest, **named: connect(*rest, factory=Connection, **named)  # type: ignore[attr-defined]
    for name in ("fsync", "fdatasync", "unlink", "mkdir"):
        ticking(name)
    os.write = half_a_write
    Segment.append, Segment.commit = append_and_count, commit_and_note  # type: ignore[method-assign]
    files.CHUNK_BYTES = CHUNK_BYTES  # type: ignore[attr-defined]
    streams.SEGMENT_BYTES, streams._READ_BYTES = SEGMENT_BYTES, READ_BYTES
    os.lseek(0, 0, os.SEEK_SET)
    sys.argv = ["tocsin", "ingest", *arguments, "--data", str(data), "--json"]
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the process ends
    cli.main()
    note()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
