"""What else could read the same lines, each in a process of its own.

``python -m benchmarks.peers NAME FILE DIR`` prints how many lines it saw and its time, without the start of
the interpreter and imports. Tocsin's own figures include both: they are times of the real command.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import orjson

from benchmarks.measure import Timing, call, process

_TAGS = {
    "request_id": "VARCHAR",
    "method": "VARCHAR",
    "path": "VARCHAR",
    "route": "VARCHAR",
    "status": "VARCHAR",
    "duration_ms": "DOUBLE",
    "user_id": "VARCHAR",
    "tenant_id": "BIGINT",
    "controller": "VARCHAR",
    "action": "VARCHAR",
    "job_class": "VARCHAR",
    "error": "VARCHAR",
    "job_id": "VARCHAR",
    "queue": "VARCHAR",
    "attempt": "BIGINT",
    "wait_ms": "DOUBLE",
}
_TOP = {
    "metric": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "level": "VARCHAR",
    "message": "VARCHAR",
    "service": "VARCHAR",
    "environment": "VARCHAR",
    "request_id": "VARCHAR",
    "tenant_id": "BIGINT",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "tokens": "BIGINT",
    "duration_ms": "DOUBLE",
    "status": "VARCHAR",
    "task_type": "VARCHAR",
}

_CLICKHOUSE = {
    "VARCHAR": "String",
    "BIGINT": "Int64",
    "DOUBLE": "Float64",
    "TIMESTAMPTZ": "DateTime64(3, 'UTC')",
}


class Peer:
    """One way to read ``file`` (or to touch its bytes); ``folder`` is empty, and thrown away afterwards."""

    def __init__(self, file: Path, folder: Path, produced_bytes: int = 0) -> None:
        self.file = file
        self.folder = folder
        self.produced_bytes = produced_bytes

    # DuckDB, reading the same fields with the same types

    def duckdb_aggregate(self) -> int:
        """Reads every field and counts it; keeps nothing."""
        counts = ", ".join(f'count("{name}")' for name in _TOP) + ", "
        counts += ", ".join(f'count(tags."{name}")' for name in _TAGS)
        return self._first(f"SELECT count(*), {counts} FROM {self._typed()}")

    def duckdb_table(self) -> int:
        """Into a table in memory."""
        return self._first(f"CREATE TABLE events AS SELECT * FROM {self._typed()}")

    def duckdb_parquet(self) -> int:
        """Into a Parquet file, zstd; not synced."""
        return self._first(
            f"COPY (SELECT * FROM {self._typed()}) TO '{self.folder}/plain.parquet' (COMPRESSION zstd)"
        )

    def _typed(self) -> str:
        tags = ", ".join(f"{name} {kind}" for name, kind in _TAGS.items())
        fields = ", ".join(
            f"'{name}': '{kind}'" for name, kind in (_TOP | {"tags": f"STRUCT({tags})"}).items()
        )
        return f"read_json('{self.file}', format = 'newline_delimited', columns = {{{fields}}})"

    def _first(self, statement: str) -> int:
        connection = duckdb.connect(config={"threads": 2})
        connection.execute("SET TimeZone = 'UTC'")
        row: Any = connection.execute(statement).fetchone()
        return int(row[0])

    # ClickHouse's engine

    def chdb(self) -> int:
        """Into a MergeTree table on disk, synced at the end of the insert."""
        session: Any = import_module("chdb.session").Session(str(self.folder))
        top = {name: _nullable(name, kind) for name, kind in _TOP.items()}
        tags = {f"tags_{name}": _nullable(name, kind) for name, kind in _TAGS.items()}
        columns = ", ".join(f"`{name}` {kind}" for name, kind in (top | tags).items())
        session.query("CREATE DATABASE bench ENGINE = Atomic")
        session.query(
            f"CREATE TABLE bench.events ({columns}) ENGINE = MergeTree ORDER BY timestamp"
            " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
        )
        inner = ", ".join(f"{name} {_nullable(name, kind)}" for name, kind in _TAGS.items())
        structure = ", ".join(f"`{name}` {kind}" for name, kind in top.items()) + f", tags Tuple({inner})"
        selected = ", ".join([*(f"`{name}`" for name in _TOP), *(f"tags.{name}" for name in _TAGS)])
        session.query(
            f"INSERT INTO bench.events SELECT {selected}"
            f" FROM file('{self.file}', 'JSONEachRow', '{structure.replace(chr(39), chr(92) + chr(39))}')"
            " SETTINGS date_time_input_format = 'best_effort', input_format_skip_unknown_fields = 1,"
            " input_format_json_named_tuples_as_objects = 1,"
            " input_format_json_defaults_for_missing_elements_in_named_tuple = 1,"
            " input_format_json_read_numbers_as_strings = 1"
        )
        return int(str(session.query("SELECT count() FROM bench.events", "CSV")))

    # Python, a line at a time

    def python_loop(self) -> int:
        """``orjson.loads`` of each line; keeps nothing."""
        count = 0
        with self.file.open("rb") as lines:
            for line in lines:
                orjson.loads(line)
                count += 1
        return count

    def python_rails_loop(self) -> int:
        """``orjson.loads`` of each line and, behind tags, of the object inside ``message``; keeps nothing."""
        count = 0
        with self.file.open("rb") as lines:
            for line in lines:
                count += 1
                if line.startswith(b"{"):
                    _loads_twice(line)
        return count

    # The machine

    def read_and_write(self) -> int:
        """Reads the file, and writes and syncs as many bytes as Tocsin stores of it."""
        block = os.urandom(1 << 20)
        with self.file.open("rb", buffering=0) as file, (self.folder / "bytes").open("wb") as output:
            lines = sum(data.count(b"\n") for data in iter(lambda: file.read(1 << 20), b""))
            for start in range(0, self.produced_bytes, len(block)):
                output.write(block[: self.produced_bytes - start])
            output.flush()
            os.fsync(output.fileno())
        return lines

    def sha256(self) -> int:
        """The hash of the file: what idempotency costs at least."""
        lines, whole = 0, hashlib.sha256()
        with self.file.open("rb", buffering=0) as file:
            while data := file.read(1 << 20):
                whole.update(data)
                lines += data.count(b"\n")
        return lines


def _nullable(name: str, kind: str) -> str:
    return _CLICKHOUSE[kind] if name == "timestamp" else f"Nullable({_CLICKHOUSE[kind]})"


def _loads_twice(line: bytes) -> None:
    try:
        message = orjson.loads(line).get("message")
        if not isinstance(message, str):
            return
        while message.startswith("[") and "] " in message:
            message = message.partition("] ")[2]
        if message.startswith("{"):
            orjson.loads(message)
    except orjson.JSONDecodeError:
        pass  # noise, and clients' look-alikes


def has_chdb() -> bool:
    """Whether the ClickHouse peer is installed."""
    return importlib.util.find_spec("chdb") is not None


def run(name: str, file: Path, folder: Path, expected: int, produced_bytes: int = 0) -> Timing:
    """One run of a peer; raises RuntimeError when it did not see all lines."""
    output = process([sys.executable, "-m", "benchmarks.peers", name, file, folder, str(produced_bytes)])[1]
    answer = json.loads(output.splitlines()[-1])
    if answer["lines"] != expected:
        raise RuntimeError(f"peer {name} saw {answer['lines']} of {expected} lines")
    return Timing(answer["wall_s"], answer["cpu_s"])


def main(name: str, file: str, folder: str, produced_bytes: str) -> None:
    """The peer's process."""
    peer = Peer(Path(file), Path(folder), int(produced_bytes))
    if name == "chdb":
        import chdb  # noqa: F401  # imports are not timed
    work: Callable[[], int] = getattr(peer, name)
    seen: list[int] = []
    timing = call(lambda: seen.append(work()))
    print(json.dumps({"wall_s": timing.wall_s, "cpu_s": timing.cpu_s, "lines": seen[0]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
