"""What the tests of the tail share: a tail, a clock that is told the time, and what was stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tocsin_server.clock import SECOND_US
from tocsin_server.config import FileSource
from tocsin_server.sources.checkpoint import Checkpoint
from tocsin_server.sources.tail import Tail, TailBatch

#: Far more than any test has to read.
MAX_ROUNDS = 1000


def nothing_known(_fd: int, _length: int) -> int:
    return 0


class Follower:
    """A collector: stores batches with their checkpoints, and starts again from these."""

    def __init__(self, *patterns: Path, known: Callable[[int, int], int] = nothing_known) -> None:
        self.sources = [FileSource(file=pattern, service="core") for pattern in patterns]
        self.known = known
        self.now = 1_795_420_800 * SECOND_US
        self.batches: list[TailBatch] = []
        self.checkpoints: dict[tuple[int, int], Checkpoint] = {}
        self.tail = self._start()

    def _start(self) -> Tail:
        return Tail(self.sources, self.checkpoints.values(), lambda: self.now, self.known)

    def restart(self) -> None:
        """Ends the process, however it ends, and starts the next one."""
        self.tail.close()
        self.tail = self._start()

    def store(self, batch: TailBatch) -> None:
        assert batch.data.endswith(b"\n")
        assert batch.length > 0
        self.batches.append(batch)
        point = Checkpoint.from_row(batch.checkpoint.as_row())
        self.checkpoints.pop(point.identity, None)
        self.checkpoints[point.identity] = point

    def after(self, seconds: float) -> Follower:
        self.now += round(seconds * SECOND_US)
        return self

    def poll(self) -> list[bytes]:
        """Rounds until nothing is left to read; the lines that came, without their newlines."""
        count = len(self.batches)
        rounds = 0
        while self.tail.poll(self.store):
            rounds += 1
            assert rounds < MAX_ROUNDS, "the tail never comes to an end"
        return self.lines(self.batches[count:])

    def look(self, seconds: float = 1) -> list[bytes]:
        """As :meth:`poll`, after a time in which new files are looked for again."""
        return self.after(seconds).poll()

    def lines(self, batches: list[TailBatch] | None = None) -> list[bytes]:
        stored = self.batches if batches is None else batches
        return [line for batch in stored for line in batch.data[:-1].split(b"\n")]

    def by_source(self) -> dict[str, list[bytes]]:
        logs: dict[str, list[bytes]] = {}
        for batch in self.batches:
            logs.setdefault(batch.source, []).extend(self.lines([batch]))
        return logs

    def counted(self, name: str) -> int:
        return self.tail.counters[f"tail_{name}_total"]
