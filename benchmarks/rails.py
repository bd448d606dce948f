"""Lines as a real Rails server and its Sidekiq worker print them: encoded twice, tagged, with noise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.measure import Timing, alternate
from benchmarks.report import Section, rate
from benchmarks.workspace import Workspace, ingest, parquet_bytes

_RECORDED = Path(__file__).parents[1] / "tests" / "data" / "rails"
_FILES = ("web.log", "worker.log")

#: Every copy of the recording lies this much later than the one before; the first lies in the past.
_SHIFT = timedelta(minutes=5)
_FIRST = datetime(2025, 9, 15, 7)

_TIME = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_UUID = re.compile(rb"[0-9a-f]{8}(?=(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def loading(workspace: Workspace) -> list[Section]:
    """``tocsin ingest`` of Rails lines beside the Python loop that people write."""
    file = workspace.folder / "rails.log"
    workspace.say("writing Rails lines")
    count = _write(file, workspace.count // 5)
    stored: list[int] = []

    def ours() -> Timing:
        workspace.say("tocsin ingest, Rails lines")
        with workspace.empty_folder() as folder:
            timing = ingest(file, folder / "data", count)
            stored.append(parquet_bytes(folder / "data"))
        return timing

    best = alternate(
        {
            "tocsin": ours,
            "loop": partial(workspace.peer, "python_rails_loop", file, count),
            "sha256": partial(workspace.peer, "sha256", file, count),
            "bytes": lambda: workspace.peer("read_and_write", file, count, stored[-1]),
        },
        workspace.runs,
    )
    rows = [
        rate("tocsin ingest, durable", "tocsin", count, best["tocsin"]),
        rate("Python loop, two orjson.loads and the tags, dropped", "peer", count, best["loop"]),
        rate("read and SHA-256 of the file", "limit", count, best["sha256"]),
        rate("read the file, write and sync the bytes stored", "limit", count, best["bytes"]),
    ]
    return [Section(f"Ingest of {count:,} Rails lines", "lines/s", True, rows, "≥ 100,000")]


def _write(path: Path, at_least: int) -> int:
    """Whole copies of the recording, with other times and request ids; answers how many lines."""
    recorded = b"".join((_RECORDED / name).read_bytes() for name in _FILES)
    copies = -(-at_least // recorded.count(b"\n"))
    with path.open("wb") as file:
        for copy in _copies(recorded, copies):
            file.write(copy)
    return copies * recorded.count(b"\n")


def _copies(recorded: bytes, copies: int) -> Iterator[bytes]:
    start = min(_moment(text) for text in _TIME.findall(recorded))
    for number in range(copies):
        shift = _FIRST - start + number * _SHIFT
        mask = number * 0x9E3779B1 & 0xFFFFFFFF
        moved = _TIME.sub(lambda match, shift=shift: _moved(match[0], shift), recorded)  # type: ignore[misc]  # bound now
        yield _UUID.sub(lambda match, mask=mask: b"%08x" % (int(match[0], 16) ^ mask), moved)  # type: ignore[misc]  # bound now


def _moment(text: bytes) -> datetime:
    return datetime.fromisoformat(text.decode())


def _moved(text: bytes, shift: timedelta) -> bytes:
    return (_moment(text) + shift).isoformat(chr(text[10])).encode()
