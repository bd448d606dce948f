"""Canonical lines: how fast they become durable events, how large these are, how soon a query answers."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.measure import Timing, alternate, process
from benchmarks.peers import Peer, has_chdb
from benchmarks.report import Role, Row, Section, rate, seconds
from benchmarks.workspace import Workspace, ingest, parquet_bytes, parquet_files, query_count

_PEERS: dict[str, tuple[str, Role]] = {
    "duckdb_aggregate": ("DuckDB typed parse, 2 threads, counted and dropped", "peer"),
    "duckdb_table": ("DuckDB typed parse, 2 threads, table in memory", "peer"),
    "duckdb_parquet": ("DuckDB typed parse, 2 threads, Parquet file, not synced", "peer"),
    "chdb": ("ClickHouse engine (chDB), MergeTree, synced", "peer"),
    "python_loop": ("Python loop, orjson.loads, dropped", "peer"),
    "sha256": ("read and SHA-256 of the file", "limit"),
    "read_and_write": ("read the file, write and sync the bytes stored", "limit"),
}

_BARE_COUNT = """
import duckdb, sys
print(duckdb.connect().execute("SELECT count(*) FROM read_parquet(?)", [sys.argv[1:]]).fetchall())
"""


def ingesting(workspace: Workspace) -> list[Section]:
    """``tocsin ingest``, then a new process's ``tocsin query``, beside what reads the same file."""
    file, count = workspace.canonical, workspace.count
    produced = parquet_bytes(workspace.store)
    queries: dict[float, Timing] = {}

    def ours() -> Timing:
        workspace.say("tocsin ingest")
        with workspace.empty_folder() as folder:
            ingested = ingest(file, folder / "data", count)
            queries[ingested.wall_s] = query_count(folder / "data", count)
        return ingested

    contestants: dict[str, Callable[[], Timing]] = {"tocsin": ours}
    for name in _PEERS:
        if name != "chdb" or has_chdb():
            contestants[name] = partial(workspace.peer, name, file, count, produced)
    best = alternate(contestants, workspace.runs)
    queried = best["tocsin"] + queries[best["tocsin"].wall_s]
    rows = [rate("tocsin ingest, durable", "tocsin", count, best["tocsin"])]
    rows.append(rate("tocsin ingest, then the first tocsin query", "tocsin", count, queried))
    rows += [
        rate(label, role, count, best[name]) if name in best else Row(label, role, None)
        for name, (label, role) in _PEERS.items()
    ]
    title = f"Ingest of {count:,} canonical lines"
    return [Section(title, "lines/s", True, rows, "≥ 500,000 on two cores, ≥ 0.40 of DuckDB's typed parse")]


def on_disk(workspace: Workspace) -> list[Section]:
    """Bytes an event; nothing here is timed."""
    file, count = workspace.canonical, workspace.count
    stored = parquet_bytes(workspace.store)
    everything = sum(path.stat().st_size for path in workspace.store.rglob("*") if path.is_file())
    workspace.say("sizes of the peers' files")
    with workspace.empty_folder() as folder:
        Peer(file, folder).duckdb_parquet()
        plain = sum(path.stat().st_size for path in folder.iterdir())
    rows = [
        Row("tocsin, sealed Parquet files", "tocsin", stored / count),
        Row("tocsin, the whole data folder", "tocsin", everything / count),
        Row("DuckDB's plain Parquet (zstd) of the typed parse", "peer", plain / count),
        Row("the lines, gzip -6", "peer", _gzip_bytes(file) / count),
        Row("the lines", "peer", file.stat().st_size / count),
    ]
    return [Section("On disk", "bytes/event", False, rows, "≤ 40")]


def _gzip_bytes(file: Path) -> int:
    packer = zlib.compressobj(6, wbits=31)  # 31: with gzip's header
    with file.open("rb") as lines:
        packed = sum(len(packer.compress(block)) for block in iter(lambda: lines.read(1 << 20), b""))
    return packed + len(packer.flush())


def querying(workspace: Workspace) -> list[Section]:
    """Cold start of ``tocsin query``: a new process that counts the events."""
    count, data = workspace.count, workspace.store
    bare: list[str | Path] = [sys.executable, "-c", _BARE_COUNT, *parquet_files(data)]
    workspace.say("tocsin query")
    best = alternate(
        {
            "tocsin": lambda: query_count(data, count),
            "duckdb": lambda: process(bare)[0],
            "python": lambda: process([sys.executable, "-c", "pass"])[0],
        },
        workspace.runs,
    )
    rows = [
        seconds("tocsin query 'SELECT count(*) FROM events'", "tocsin", best["tocsin"]),
        seconds("python -c 'import duckdb', the same count", "peer", best["duckdb"]),
        seconds("python -c pass", "limit", best["python"]),
    ]
    return [Section(f"Cold start of a query over {count:,} events", "s", False, rows)]
