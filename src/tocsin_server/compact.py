"""Keeps the events table small in files and within its limits: merging and retention.

A live process seals a file every half minute or so. Files of one day and one size class are merged sixteen at
a time, so that an event is written at most once more per class. Retention drops whole files, the oldest
first (rows D9, D10, L4). A file that is replaced or dropped leaves the manifest in one transaction and is
deleted a while later, when no reader can still be using it; a crash in between leaves an orphan, which the
next start removes.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from pathlib import Path

import duckdb

from tocsin_server.spool import sync_directory
from tocsin_server.store import Store, parquet
from tocsin_server.store.manifest import SealedFile

#: So many files of one class become one.
FAN_IN = 16
#: Upper bounds of the size classes; a larger file is never merged again.
CLASSES_BYTES = (256 << 10, 4 << 20, 64 << 20)


def mergeable(files: list[SealedFile]) -> list[list[SealedFile]]:
    """Groups of files to merge, each of one day and one size class, oldest events first."""
    classes: dict[tuple[str, int], list[SealedFile]] = defaultdict(list)
    for file in sorted(files, key=lambda one: (one.min_ts, one.name)):
        size = next((n for n, bound in enumerate(CLASSES_BYTES) if file.bytes <= bound), None)
        if size is not None and not file.is_tail:
            classes[str(Path(file.name).parent), size].append(file)
    return [
        group[at : at + FAN_IN]
        for group in classes.values()
        for at in range(0, len(group) - FAN_IN + 1, FAN_IN)
    ]


def merge(connection: duckdb.DuckDBPyConnection, store: Store, group: list[SealedFile]) -> list[Path]:
    """Makes one file of a group; answers the files that are no longer part of the table."""
    path = (store.events / group[0].name).with_name(f"{secrets.token_hex(8)}.parquet")
    parquet.write(connection, f"SELECT * FROM {parquet.scan(store.paths(group))}", path)
    sync_directory(path.parent)
    merged = SealedFile(
        name=str(path.relative_to(store.events)),
        rows=sum(file.rows for file in group),
        bytes=path.stat().st_size,
        min_ts=min(file.min_ts for file in group),
        max_ts=max(file.max_ts for file in group),
        own_ids=sum(file.own_ids for file in group),
        received_at=max(file.received_at for file in group),
    )
    with store.manifest.transaction():
        if not {file.name for file in group} <= {file.name for file in store.manifest.files()}:
            path.unlink()  # one of them was dropped or replaced meanwhile
            return []
        for file in group:
            store.manifest.remove_file(file.name)
        store.manifest.add_file(0, merged)
    return store.paths(group)


def expired(files: list[SealedFile], now_us: int, raw_us: int, max_bytes: int | None) -> list[SealedFile]:
    """Files that retention drops: all of whose events are older than ``raw_us`` (counted from the later of
    event time and receipt, so that history which is loaded late is not lost at once), and the oldest ones
    above ``max_bytes``.
    """
    by_age = sorted(files, key=lambda file: (max(file.max_ts, file.received_at), file.name))
    total = sum(file.bytes for file in files)
    dropped: list[SealedFile] = []
    for file in by_age:
        too_old = max(file.max_ts, file.received_at) < now_us - raw_us
        if not too_old and (max_bytes is None or total <= max_bytes):
            break
        dropped.append(file)
        total -= file.bytes
    return dropped


def drop(store: Store, files: list[SealedFile]) -> list[Path]:
    """Takes files out of the table; answers their paths, to be deleted when no reader uses them."""
    with store.manifest.transaction():
        for file in files:
            store.manifest.remove_file(file.name)
    return store.paths(files)
