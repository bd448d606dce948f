"""Following files: rows T1 and T3 to T12 of the reliability bar, and the hard cases of its table 2."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from following import Follower
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin_server.chunks import KEPT_BYTES
from tocsin_server.errors import TocsinError
from tocsin_server.sources import checkpoint, openfiles
from tocsin_server.sources.checkpoint import Checkpoint
from tocsin_server.sources.discovery import source_name
from tocsin_server.sources.tail import TailBatch


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def follower(log: Path) -> Iterator[Follower]:
    following = Follower(log.with_name("*.log"))
    yield following
    following.tail.close()


@contextmanager
def following(*patterns: Path) -> Iterator[Follower]:
    follower = Follower(*patterns)
    try:
        yield follower
    finally:
        follower.tail.close()


def add(path: Path, *lines: str | bytes) -> None:
    with path.open("ab") as file:
        for line in lines:
            file.write((line.encode() if isinstance(line, str) else line) + b"\n")


def write(path: Path, data: bytes) -> None:
    """Appends bytes that need not be lines."""
    with path.open("ab") as file:
        file.write(data)


def rotate(log: Path, generations: int = 3) -> None:
    """As logrotate does without ``create``: the oldest generation goes."""
    for number in range(generations, 0, -1):
        older, younger = (log.with_name(f"{log.name}.{n}") for n in (number + 1, number))
        if younger.exists():
            younger.rename(older)
    log.with_name(f"{log.name}.{generations + 1}").unlink(missing_ok=True)
    log.rename(log.with_name(f"{log.name}.1"))


def numbered(start: int, stop: int) -> list[str]:
    return [f"line {number:07d}" for number in range(start, stop)]


def as_bytes(lines: list[str]) -> list[bytes]:
    return [line.encode() for line in lines]


# --- lines --------------------------------------------------------------------------------------------------


def test_a_growing_file_is_followed(follower: Follower, log: Path) -> None:
    add(log, "a", "b")
    assert follower.poll() == [b"a", b"b"]
    assert follower.poll() == []
    add(log, "c")
    assert follower.poll() == [b"c"]
    batch = follower.batches[-1]
    assert (batch.source, batch.length, batch.service) == (str(log), 2, "core")
    assert (batch.environment, batch.received_at, batch.partial) == (None, follower.now, False)
    assert (batch.checkpoint.offset, batch.checkpoint.path) == (6, str(log))


def test_a_new_file_is_found_within_a_second(follower: Follower, log: Path) -> None:
    assert follower.poll() == []
    add(log, "a")
    assert follower.poll() == []
    assert follower.look() == [b"a"]


def test_a_quiet_file_is_read_again_when_it_changes(follower: Follower, log: Path) -> None:
    add(log, "a")
    follower.poll()
    assert follower.look(3) == []
    add(log, "b")
    assert follower.poll() == [b"b"]


def test_T7_a_partial_last_line_over_a_restart_is_one_line(follower: Follower, log: Path) -> None:
    write(log, b"whole\nhal")
    assert follower.poll() == [b"whole"]
    follower.restart()
    assert follower.poll() == []
    write(log, b"f")
    follower.restart()
    write(log, b"\n")
    assert follower.poll() == [b"half"]


def test_T7_a_line_written_byte_by_byte_is_one_line(follower: Follower, log: Path) -> None:
    came = []
    for byte in '{"message":"schön"}\n'.encode():
        write(log, bytes([byte]))
        came += follower.look(0.15)
    assert came == ['{"message":"schön"}'.encode()]
    assert len(follower.batches) == 1


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="a🎒é\r\u2028", max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_T8_a_character_cut_at_a_read_boundary_stays_whole(text: str, cuts: list[int]) -> None:
    data = (text + "\n").encode()
    with tempfile.TemporaryDirectory() as folder, following(Path(folder, "app.log")) as follower:
        for length in cuts * len(data):
            part, data = data[:length], data[length:]
            write(Path(folder, "app.log"), part)
            follower.look()
            if not data:
                break
        assert follower.lines() == [text.encode()]


def test_T9_a_huge_line_is_cut_and_the_next_one_is_whole(follower: Follower, log: Path) -> None:
    size = 64 << 20
    add(log, "before")
    os.truncate(log, log.stat().st_size + 1)
    with log.open("r+b") as file:
        file.seek(7)
        for _ in range(size >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b"\nafter\n")
    tracemalloc.start()
    lines = follower.poll()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line[:9] for line in lines] == [b"before", b"x" * 9, b"after"]
    assert len(lines[1]) == KEPT_BYTES
    assert follower.counted("long_lines") == 1
    assert sum(batch.length for batch in follower.batches) == log.stat().st_size
    assert peak < 16 << 20


@pytest.mark.parametrize("extra", [-1, 0, 1, 2])
def test_T9_lines_about_as_long_as_the_limit(follower: Follower, log: Path, extra: int) -> None:
    length = KEPT_BYTES + extra
    add(log, b"x" * length, "after")
    assert [len(line) for line in follower.poll()] == [min(length, KEPT_BYTES), 5]
    assert follower.counted("long_lines") == (extra > 0)


def test_T9_a_huge_line_that_is_truncated_before_its_end(follower: Follower, log: Path) -> None:
    add(log, "a")
    write(log, b"x" * (3 << 20))
    assert follower.poll() == [b"a"]
    os.truncate(log, 1000)
    assert follower.poll() == []
    write(log, b"\n")
    assert follower.poll() == [b"x" * 998]
    assert follower.counted("truncations") == 0


def test_a_hole_before_a_line_costs_no_more_than_its_line(follower: Follower, log: Path) -> None:
    """A writer without O_APPEND goes on at its old place after copytruncate: everything before is a hole."""
    add(log, "a")
    assert follower.poll() == [b"a"]
    os.truncate(log, 0)
    os.truncate(log, 5 << 20)
    add(log, "after the hole", "b")
    assert follower.poll() == [b"\0after the hole", b"b"]
    assert follower.counted("nul_bytes") == (5 << 20) - 1
    assert follower.counted("long_lines") == 0


def test_a_byte_order_mark_is_taken_off_at_the_beginning_only(follower: Follower, log: Path) -> None:
    write(log, b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert follower.poll() == [b"a", b"\xef\xbb\xbfb"]
    assert follower.batches[0].length == 10


# --- rotation -----------------------------------------------------------------------------------------------


def test_T1_a_hundred_rotations_lose_and_repeat_nothing(follower: Follower, log: Path) -> None:
    for turn in range(100):
        lines = numbered(turn * 200, turn * 200 + 200)
        add(log, *lines[:90])
        follower.look(0.3)
        add(log, *lines[90:180])
        rotate(log)
        follower.look(0.3)
        add(log.with_name("app.log.1"), *lines[180:])  # the writer has not opened the new file yet
        log.touch()
    follower.look()
    assert follower.by_source() == {str(log): as_bytes(numbered(0, 20_000))}
    assert follower.counted("bytes_lost") == 0


def test_T1_the_old_file_is_read_first_and_closed_after_five_seconds(follower: Follower, log: Path) -> None:
    add(log, "a")
    follower.poll()
    rotate(log)
    add(log.with_name("app.log.1"), "late")
    add(log, "new")
    assert follower.look() == [b"late", b"new"]
    assert [row["state"] for row in follower.tail.health()] == ["rotated", "following"]
    add(log.with_name("app.log.1"), "later")
    assert follower.look(4) == [b"later"]
    follower.look(5.5)
    assert [row["state"] for row in follower.tail.health()] == ["following"]
    add(log.with_name("app.log.1"), "much later")
    assert follower.look() == [b"much later"]
    assert set(follower.by_source()) == {str(log)}


def test_T1_a_rotation_while_down_is_found_by_what_the_file_is(follower: Follower, log: Path) -> None:
    add(log, "a")
    follower.poll()
    add(log, "b")
    for line in "cd":  # two rotations: one file was never seen under its first name
        rotate(log)
        add(log, line)
    follower.restart()
    assert follower.poll() == [b"b", b"c", b"d"]
    assert set(follower.by_source()) == {str(log)}


@pytest.mark.parametrize(
    "name", ["app.log.1", "app.log-20261123", "app.log.2026-11-23_07", "app-20261123.log.bak", "app.log.old"]
)
def test_T1_a_rotated_file_is_known_under_any_name(follower: Follower, log: Path, name: str) -> None:
    add(log, "a")
    follower.poll()
    add(log, "b")
    log.rename(log.with_name(name))
    follower.restart()
    assert follower.poll() == [b"b"]
    assert set(follower.by_source()) == {str(log)}


def test_T1_rotated_files_from_before_the_first_start_are_history(follower: Follower, log: Path) -> None:
    add(log.with_name("app.log.1"), "old")
    add(log.with_name("app.log-20261122"), "old")
    add(log, "a")
    assert follower.poll() == [b"a"]
    rotate(log)
    add(log, "b")
    assert follower.look() == [b"b"]


def test_T1_a_pattern_that_matches_rotated_files_reads_them_in_order(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    for name, line in (("app.log.10", "a"), ("app.log.2", "b"), ("app.log", "c")):
        add(tmp_path / name, line)
    with following(tmp_path / "app.log*") as follower:
        assert follower.poll() == [b"a", b"b", b"c"]
        assert set(follower.by_source()) == {str(log)}


def test_T1_the_settings_of_the_log_hold_for_its_rotated_file(tmp_path: Path) -> None:
    with following(tmp_path / "core*.log", tmp_path / "gateway*.log") as follower:
        follower.sources[1] = follower.sources[1].model_copy(update={"service": "gateway"})
        log = tmp_path / "gateway.log"
        add(log, "a")
        follower.poll()
        add(log, "b")
        rotate(log)
        add(tmp_path / "core.log", "c")
        follower.restart()
        assert follower.poll() == [b"b", b"c"]
        assert [batch.service for batch in follower.batches] == ["gateway", "gateway", "core"]


def test_case_8_the_last_line_of_a_rotated_file_comes_when_nobody_writes_any_more(
    follower: Follower, log: Path
) -> None:
    write(log, b"a\nlast")
    follower.poll()
    rotate(log)
    assert follower.look() == []
    assert follower.look(4.5) == []
    assert follower.look(1) == [b"last"]
    assert (follower.batches[-1].partial, follower.batches[-1].length) == (True, 4)
    follower.restart()
    assert follower.look(9) == []


def test_case_8_the_last_line_of_a_file_that_stays_is_waited_for(follower: Follower, log: Path) -> None:
    write(log, b"a\nlast")
    follower.poll()
    assert follower.look(60) == []


def test_case_8_a_huge_last_line_of_a_removed_file(follower: Follower, log: Path) -> None:
    write(log, b"x" * (3 << 20))
    follower.poll()
    log.unlink()
    follower.look()
    (line,) = follower.look(6)
    assert (len(line), follower.batches[-1].length) == (KEPT_BYTES, 3 << 20)
    assert follower.tail.health()[0]["state"] == "missing"


def test_case_11_compressed_files_are_left_alone(follower: Follower, log: Path) -> None:
    add(log, "a")
    follower.poll()
    rotate(log)
    add(log.with_name("app.log.1.gz"), "never")
    add(log.with_name("other.log.zst"), "never")
    assert follower.look() == []


@pytest.mark.parametrize("lines", [1, 400_000])
def test_case_18_many_rotations_at_once(follower: Follower, log: Path, lines: int) -> None:
    """More generations than are held open: nothing is lost as long as they are on disk."""
    add(log, "first")
    follower.poll()
    expected = [b"first"]
    for turn in range(12):
        name = f"{turn} " + "x" * (lines // 1000)
        expected += [name.encode()] * (1 + lines // 2000)
        add(log, *[name] * (1 + lines // 2000))
        rotate(log, generations=20)
        log.touch()
    for _ in range(30):
        follower.look()
        open_rows = [row for row in follower.tail.health() if row["state"] == "rotated"]
        assert len(open_rows) <= openfiles.MAX_ROTATED
    assert follower.lines() == expected
    assert follower.counted("bytes_lost") == 0


def test_case_18_what_is_gone_beyond_the_limit_is_counted(follower: Follower, log: Path) -> None:
    follower.poll()
    for turn in range(11):
        add(log, f"{turn}")
        follower.after(1).tail.poll(refuse)  # opened, but never stored
        rotate(log, generations=20)
    follower.after(1).tail.poll(refuse)
    for number in range(1, 21):
        log.with_name(f"app.log.{number}").unlink(missing_ok=True)
    lines = follower.look(5)
    assert len(lines) >= openfiles.MAX_ROTATED
    assert follower.counted("bytes_lost") == sum(
        len(f"{turn}\n") for turn in range(11) if str(turn).encode() not in lines
    )


def refuse(_batch: TailBatch) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# --- truncation ---------------------------------------------------------------------------------------------


def test_T3_copytruncate_loses_only_what_was_not_read_yet(follower: Follower, log: Path) -> None:
    expected = []
    for turn in range(50):
        lines = numbered(turn * 30, turn * 30 + 30)
        add(log, *lines[:20])
        expected += as_bytes(lines[:20])
        follower.look(0.3)
        add(log, *lines[20:])  # in the known window: written after our last read, before the truncation
        log.with_name("app.log.1").write_bytes(log.read_bytes())
        os.truncate(log, 0)
        follower.look(0.3)
    assert follower.lines() == expected
    assert follower.counted("truncations") == 50
    assert follower.counted("rewrites") == 0


@pytest.mark.parametrize("lines", [20, 21, 500])
def test_T3_a_file_that_grew_again_to_the_same_size_or_more(
    follower: Follower, log: Path, lines: int
) -> None:
    add(log, *numbered(0, 20))
    follower.poll()
    for turn in range(1, 6):
        os.truncate(log, 0)
        new = numbered(1000 * turn, 1000 * turn + lines)
        add(log, *new)
        assert follower.poll() == as_bytes(new)
    assert follower.counted("truncations") == follower.counted("rewrites") == 5


def test_T3_what_was_seen_but_not_read_is_counted(follower: Follower, log: Path) -> None:
    add(log, "a")
    follower.tail.poll(refuse)
    os.truncate(log, 0)
    assert follower.look(5) == []
    follower.restart()
    write(log, b"b\nhalf")
    follower.poll()
    os.truncate(log, 0)
    follower.poll()
    assert (follower.counted("truncations"), follower.counted("bytes_lost")) == (1, 4)


@pytest.mark.parametrize("lines", [1, 20, 21, 500])
def test_T4_a_file_written_anew_while_down_is_read_from_its_beginning(
    follower: Follower, log: Path, lines: int
) -> None:
    add(log, *numbered(0, 20))
    follower.poll()
    os.truncate(log, 0)
    new = numbered(1000, 1000 + lines)
    add(log, *new)
    follower.restart()
    assert follower.poll() == as_bytes(new)
    assert (follower.counted("truncations"), follower.counted("rewrites")) == (1, int(lines >= 20))
    follower.restart()
    assert follower.poll() == []


# --- identity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [False, True])
def test_T5_a_file_that_has_the_inode_of_another_is_read_whole(
    follower: Follower, log: Path, restarts: bool
) -> None:
    for turn in range(200):
        add(log, "the same banner" * 40, f"{turn}")
        assert follower.look()[-1:] == [f"{turn}".encode()]
        log.unlink()
        if restarts:
            follower.restart()
        else:
            follower.look(6)  # closed: the inode is free
    assert len(follower.lines()) == 400


@pytest.mark.skipif(sys.platform != "linux", reason="generations of inodes are Linux's")
def test_T5_a_file_with_the_inode_and_the_bytes_of_another(follower: Follower, log: Path) -> None:
    for _ in range(20):
        add(log, "identical")
        follower.look()
        has_generation = next(iter(follower.checkpoints.values())).generation != 0
        log.unlink()
        follower.restart()
    assert len(follower.lines()) == (20 if has_generation else len(follower.checkpoints))


def test_T5_without_generations_the_bytes_tell(
    follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_arguments: object) -> None:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(checkpoint.fcntl, "ioctl", unsupported)
    for turn in range(20):
        add(log, "the same banner" * 40, f"{turn:02d}")
        assert follower.look()[-1:] == [f"{turn:02d}".encode()]
        log.unlink()
        follower.restart()


def test_T6_tiny_empty_and_identical_files(tmp_path: Path) -> None:
    with following(tmp_path / "*.log") as follower:
        for number in range(500):
            write(tmp_path / f"{number}.log", b"same\n" if number % 5 else b"")
        assert follower.look(2) == [b"same"] * 400
        for number in range(500):
            add(tmp_path / f"{number}.log", f"{number}")
        follower.restart()
        assert sorted(follower.poll(), key=int) == as_bytes([str(n) for n in range(500)])
        assert len(follower.tail.health()) == 500


def test_cases_12_and_13_one_reader_per_file_whatever_its_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "logs").mkdir()
    target = tmp_path / "data" / "app.log"
    add(target, "a")
    (tmp_path / "logs" / "link.log").symlink_to(target)
    (tmp_path / "logs" / "hard.log").hardlink_to(target)
    with following(tmp_path / "data/*.log", tmp_path / "**/*.log") as follower:
        assert follower.poll() == [b"a"]
        add(tmp_path / "logs" / "link.log", "b")
        assert follower.look(7) == [b"b"]
        assert follower.look(7) == []


def test_case_12_a_symbolic_link_that_leads_elsewhere_and_back(tmp_path: Path) -> None:
    link, targets = tmp_path / "current.log", [tmp_path / "0" / "app", tmp_path / "1" / "app"]
    with following(link) as follower:
        for turn in range(4):
            target = targets[turn % 2]
            target.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            add(target, f"{turn}")
            assert follower.look() == [f"{turn}".encode()]
            follower.look(7)
        assert set(follower.by_source()) == {str(link)}


def test_a_device_may_have_another_number_after_a_reboot(follower: Follower, log: Path) -> None:
    add(log, "a")
    follower.poll()
    (point,) = follower.checkpoints.values()
    moved = Checkpoint.from_row(point.as_row() | {"device": point.device + 1})
    follower.checkpoints = {moved.identity: moved}
    add(log, "b")
    follower.restart()
    assert follower.poll() == [b"b"]


def test_what_was_ingested_is_not_read_again(tmp_path: Path) -> None:
    asked = []

    def known(fd: int, length: int) -> int:
        asked.append((os.pread(fd, 2, 0), length))
        return 2

    add(tmp_path / "app.log", "a", "b")
    follower = Follower(tmp_path / "app.log", known=known)
    assert follower.poll() == [b"b"]
    follower.restart()
    assert follower.poll() == []
    assert asked == [(b"a\n", 4)]
    follower.tail.close()


# --- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), TocsinError("disk full")]
)
def test_what_cannot_be_stored_comes_again(follower: Follower, log: Path, error: Exception) -> None:
    def full(_batch: TailBatch) -> None:
        raise error

    add(log, "a", "b")
    for _ in range(10):
        assert not follower.after(1).tail.poll(full)
    assert follower.tail.health()[0] | {"state": "failing", "offset": 0} == follower.tail.health()[0]
    assert follower.look(5) == [b"a", b"b"]
    assert follower.counted("errors") < 10
    assert follower.tail.health()[0]["error"] is None


def test_a_file_that_waits_for_an_older_one_does_not_keep_the_reader_busy(
    follower: Follower, log: Path
) -> None:
    add(log, "a")
    follower.tail.poll(refuse)
    rotate(log)
    add(log, "b")
    assert not follower.after(1).tail.poll(refuse)
    assert not follower.tail.poll(follower.store)
    assert follower.look(5) == [b"a", b"b"]


def test_a_crash_between_storing_and_going_on_repeats_nothing(follower: Follower, log: Path) -> None:
    class Killed(BaseException):
        pass

    def killed(batch: TailBatch) -> None:
        follower.store(batch)
        raise Killed

    add(log, "a", "b")
    with pytest.raises(Killed):
        follower.tail.poll(killed)
    follower.restart()
    add(log, "c")
    follower.poll()
    assert follower.lines() == [b"a", b"b", b"c"]


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """As somebody whom permissions concern: root reads everything."""
    if os.geteuid() != 0:
        yield
        return
    for parent in [folder, *folder.parents[:-1]]:
        if parent.stat().st_mode & 0o5 != 0o5:
            pytest.skip(f"others cannot enter {parent}")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_T12_permission_lost_and_given_back() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        log = folder / "app.log"
        add(log, "a")
        with following(log) as follower:
            log.chmod(0)
            with unprivileged(folder):
                for _ in range(20):
                    assert follower.look() == []
            (row,) = follower.tail.health()
            assert (row["path"], row["state"], row["error"]) == (str(log), "failing", "Permission denied")
            assert 3 < follower.counted("errors") < 10
            log.chmod(0o644)
            with unprivileged(folder):
                assert follower.look(5) == [b"a"]
            assert [row["state"] for row in follower.tail.health()] == ["following"]


def test_T12_a_path_that_cannot_be_looked_at(follower: Follower, log: Path) -> None:
    log.symlink_to(log)
    add(log.with_name("other.log"), "a")
    assert follower.poll() == [b"a"]
    assert {row["state"] for row in follower.tail.health()} == {"failing", "following"}
    log.unlink()
    add(log, "b")
    assert follower.look(5) == [b"b"]
    assert {row["state"] for row in follower.tail.health()} == {"following"}


def test_T12_a_folder_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with following(folder / "*.log") as follower:
        add(folder / "app.log", "a")
        follower.poll()
        write(folder / "app.log", b"b\npart")
        folder.joinpath("app.log").unlink()
        folder.rmdir()
        assert follower.look() == [b"b"]
        assert follower.look(6) == [b"part"]
        assert [row["state"] for row in follower.tail.health()] == ["missing"]
        folder.mkdir()
        add(folder / "app.log", "c")
        assert follower.look() == [b"c"]


def test_T12_a_file_that_cannot_be_read_is_tried_again(
    follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(log, "a")
    follower.poll()
    add(log, "b")
    with monkeypatch.context() as patch:

        def broken(*_arguments: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "pread", broken)
        assert follower.look() == []
        assert follower.look() == []
        assert follower.tail.health()[0]["error"] == "Input/output error"
    assert follower.look(5) == [b"b"]


def test_what_is_no_regular_file_is_left_alone(follower: Follower, log: Path) -> None:
    log.mkdir()
    os.mkfifo(log.with_name("pipe.log"))
    log.with_name("broken.log").symlink_to("nowhere")
    assert follower.poll() == []
    assert [row["state"] for row in follower.tail.health()] == ["missing"]


def test_a_clock_that_goes_back_hinders_nobody(follower: Follower, log: Path) -> None:
    follower.poll()
    add(log, "a")
    assert follower.look(-3600) == [b"a"]


def test_names_that_are_no_text_and_names_that_lie(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\x1b[31m.log"
    Path(os.fsdecode(path)).write_bytes(b"a\n")
    with following(tmp_path / "*.log") as follower:
        assert follower.poll() == [b"a"]
        follower.batches[0].source.encode()
        assert follower.batches[0].source == source_name(os.fsdecode(path))
        follower.restart()
        assert follower.poll() == []


# --- many files ---------------------------------------------------------------------------------------------


def test_T11_a_flooded_file_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with following(tmp_path / "*.log") as follower:
        write(tmp_path / "a-flood.log", (b"x" * 99 + b"\n") * 100_000)
        for number in range(50):
            add(tmp_path / f"slow-{number}.log", "a")
        assert follower.tail.poll(follower.store)
        assert len(follower.by_source()) == 51
        assert len(follower.by_source()[str(tmp_path / "a-flood.log")]) < 11_000
        follower.poll()
        assert len(follower.lines()) == 100_050


def test_D15_more_files_than_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (32, 32))
    paths = [tmp_path / f"{number}.log" for number in range(100)]
    with following(tmp_path / "*.log") as follower:
        for turn in range(3):
            for path in paths:
                add(path, f"{turn}")
            for _ in range(12):
                follower.look()
                assert turn == 0 or len(follower.tail.health()) == 100
        follower.restart()
        follower.look(1)
        assert sorted(follower.lines()) == sorted([b"0", b"1", b"2"] * 100)


WRITER = """
import os, sys, time
log, count, turn = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
file = open(log, "ab", buffering=0)
for number in range(count):
    file.write(b"line %07d %s\\n" % (number, b"x" * (number % 200)))
    if number % turn == turn - 1:
        for n in range(6, 0, -1):
            if os.path.exists(f"{log}.{n}"):
                os.rename(f"{log}.{n}", f"{log}.{n + 1}")
        os.rename(log, log + ".1")
        for _ in range(3):
            file.write(b"late\\n")
        file.close()
        file = open(log, "ab", buffering=0)
        time.sleep(0.2)
"""


def test_T1_a_real_writer_that_rotates_while_it_is_read(tmp_path: Path) -> None:
    log, count, turn = tmp_path / "app.log", 24_000, 2000
    with following(log) as follower:
        start = time.time()
        follower.tail._clock = lambda: int(time.time() * 1_000_000)
        add(log, "late")
        follower.poll()
        with subprocess.Popen([sys.executable, "-c", WRITER, str(log), str(count), str(turn)]) as writer:
            late = 1 + 3 * (count // turn)
            while len(follower.lines()) < count + late and time.time() < start + 30:
                if not follower.tail.poll(follower.store):
                    time.sleep(0.02)
            assert writer.wait(10) == 0
        follower.poll()
        lines = [line for line in follower.lines() if line != b"late"]
        assert [int(line[5:12]) for line in lines] == list(range(count))
        assert len(follower.lines()) == count + late
