"""Row T10 of the reliability bar: whatever happens to the files, in whatever order, the tail keeps its word.

The model knows of each file which lines are in it, and which may be lost: those that were not read before
their file was truncated or removed, and those of a file that came and went while nobody could know of it.
Every other line must arrive once, whole, and in the order of its file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from following import Follower
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tocsin_server.sources.tail import DISCOVERY_US, TailBatch

#: Sequences in each run; row T10 asks for 5,000 (``TAIL_SEQUENCES=5000``).
SEQUENCES = int(os.environ.get("TAIL_SEQUENCES", "150"))
GENERATIONS = 3


class Killed(BaseException):
    """The process dies here."""


class DiskFullError(OSError):
    """Nothing can be stored."""


@dataclass(eq=False)
class Model:
    """A file: its lines, and the beginning of one that has no newline yet. ``tracked``: the tail knows it."""

    lines: list[bytes] = field(default_factory=list)
    unfinished: bytes = b""
    tracked: bool = False


class Logs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.log = self.folder / "logs" / "app.log"
        self.log.parent.mkdir()
        self.follower = Follower(self.log.with_name("*.log"))
        self.written = 0
        self.chain: list[Model] = []  # rotated files, the youngest first
        self.live: Model | None = None
        self.gone: list[Model] = []
        self.may_be_lost: set[bytes] = set()
        self.may_come_in_pieces: set[bytes] = set()
        self.discovered_at: int | None = None

    @initialize(by=st.sampled_from(["rename", "copytruncate"]), links=st.booleans())
    def choose(self, by: str, links: bool) -> None:
        self.by = by
        self.links = links
        if links:
            self.link()

    # What programs do to files

    @rule(count=st.integers(1, 5), size=st.sampled_from([0, 7, 300, 40_000]), then_poll=st.booleans())
    def write(self, count: int, size: int, then_poll: bool = False) -> None:
        for _ in range(count):
            self.written += 1
            self.put(self.file(), b"%06d %s\n" % (self.written, b"x" * (size + self.written % 13)), self.log)
        if then_poll:
            self.poll(1)

    @rule(end=st.booleans())
    def write_part_of_a_line(self, end: bool) -> None:
        self.written += 1
        self.put(self.file(), b"%06d+" % self.written + (b"\n" if end else b""), self.log)

    @precondition(lambda self: self.chain)
    @rule()
    def write_late(self) -> None:
        """The writer still has the file open that was renamed."""
        if self.by == "rename":
            self.written += 1
            self.put(self.chain[0], b"%06d late\n" % self.written, self.generation(1))

    @precondition(lambda self: self.live)
    @rule(create=st.booleans())
    def rotate(self, create: bool) -> None:
        if self.links:
            return
        if len(self.chain) == GENERATIONS:
            self.generation(GENERATIONS).unlink()
            self.lose(self.chain.pop())
        for number in range(len(self.chain), 0, -1):
            self.generation(number).rename(self.generation(number + 1))
        if self.by == "rename":
            self.log.rename(self.generation(1))
            self.may_come_in_pieces.add(self.live.unfinished)
            self.chain.insert(0, self.live)
            self.live = None
            if create:
                self.file()
        else:
            shutil.copyfile(self.log, self.generation(1))
            self.chain.insert(0, Model())  # a copy: nothing of it may come
            self.truncate()

    @precondition(lambda self: self.live)
    @rule(count=st.integers(0, 30), then_poll=st.booleans())
    def truncate(self, count: int = 0, then_poll: bool = False) -> None:
        os.truncate(self.log, 0)
        self.lose(self.live)
        self.live = Model(tracked=self.live.tracked)
        self.write(count, 7, then_poll)

    @precondition(lambda self: self.live)
    @rule()
    def replace(self) -> None:
        """The file is deleted, or the symbolic link leads to another, new one."""
        self.lose(self.live)
        self.live = None
        self.log.unlink()
        if self.links:
            self.link()

    def link(self) -> None:
        target = self.folder / f"{self.written}-{len(self.gone)}"
        target.touch()
        self.log.symlink_to(target)
        self.live = Model()

    # What the tail does

    @rule()
    def poll_at_once(self) -> None:
        self.poll(0)

    @rule(seconds=st.sampled_from([0.3, 1, 1.1, 6]))
    def poll(self, seconds: float) -> None:
        self.discover(seconds)
        self.follower.poll()

    @rule(seconds=st.sampled_from([0, 1]))
    def poll_with_a_full_disk(self, seconds: float) -> None:
        def full(_batch: TailBatch) -> None:
            raise DiskFullError

        self.discover(seconds)
        self.follower.tail.poll(full)

    @rule(seconds=st.sampled_from([0, 1]), stores=st.booleans())
    def kill(self, seconds: float, stores: bool) -> None:
        """The process ends before or after a batch is durable."""

        def die(batch: TailBatch) -> None:
            if stores:
                self.follower.store(batch)
            raise Killed

        self.discover(seconds)
        with suppress(Killed):
            self.follower.tail.poll(die)
        self.restart()

    @rule()
    def restart(self) -> None:
        self.follower.restart()
        self.discovered_at = None
        arrived = set(self.follower.lines())
        for model in [*self.chain, *([self.live] if self.live else [])]:
            model.tracked = any(line in arrived for line in model.lines)

    # The model

    def file(self) -> Model:
        if self.live is None:
            self.live = Model()
            self.log.touch()
        return self.live

    def generation(self, number: int) -> Path:
        return self.log.with_name(f"app.log.{number}")

    def put(self, model: Model, data: bytes, path: Path) -> None:
        with path.open("ab") as file:
            file.write(data)
        if model.unfinished and model is not self.live:
            self.may_come_in_pieces |= {model.unfinished, data[:-1], model.unfinished + data[:-1]}
        whole, newline, _ = (model.unfinished + data).partition(b"\n")
        model.unfinished = b"" if newline else whole
        if newline:
            model.lines.append(whole)

    def lose(self, model: Model) -> None:
        """What was not read of a file that is truncated or removed may be lost; it may come, too."""
        arrived = set(self.follower.lines())
        self.may_be_lost |= {line for line in model.lines if line not in arrived}
        self.may_come_in_pieces |= {model.unfinished}
        self.gone.append(model)

    def discover(self, seconds: float) -> None:
        now = self.follower.after(seconds).now
        if self.discovered_at is not None and now - self.discovered_at < DISCOVERY_US:
            return
        self.discovered_at = now
        if self.live:
            self.live.tracked = True
        for older, younger in zip(self.chain[::-1], self.chain[-2::-1], strict=False):
            younger.tracked = younger.tracked or (older.tracked and self.by == "rename")

    @invariant()
    def nothing_comes_twice_or_changed(self) -> None:
        arrived = self.follower.lines()
        known = {line for model in self.models() for line in model.lines}
        odd = [line for line in arrived if line not in known and line not in self.may_come_in_pieces]
        assert odd == []
        assert len(set(arrived)) == len(arrived)

    def models(self) -> list[Model]:
        return [*self.gone, *self.chain[::-1], *([self.live] if self.live else [])]

    def teardown(self) -> None:
        try:
            self.discover(5)
            for _ in range(4):
                self.follower.look(6)
            self.nothing_comes_twice_or_changed()
            arrived = self.follower.lines()
            place = {line: number for number, line in enumerate(arrived)}
            for model in self.models():
                places = [place[line] for line in model.lines if line in place]
                assert places == sorted(places)
                missing = [line for line in model.lines if line not in place]
                missing = [line for line in missing if line not in self.may_be_lost | self.may_come_in_pieces]
                assert missing == [] or not model.tracked, missing
            assert {batch.source for batch in self.follower.batches} <= {str(self.log)}
        finally:
            self.follower.tail.close()
            shutil.rmtree(self.folder)


def test_T10_any_sequence_of_actions() -> None:
    run_state_machine_as_test(
        Logs,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_T10_the_model_would_see_a_lost_and_a_repeated_line() -> None:
    """The test of the test: a tail that forgets a line, or repeats one, does not pass."""
    for sabotage in ("lose", "repeat"):
        logs = Logs()
        logs.choose("rename", links=False)
        logs.write(2, 0)
        logs.poll(1)
        batches = logs.follower.batches
        batches[:] = [] if sabotage == "lose" else batches * 2
        try:
            logs.teardown()
        except AssertionError:
            continue
        raise AssertionError(f"nobody noticed: {sabotage}")
