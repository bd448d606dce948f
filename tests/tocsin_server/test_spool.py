"""The spool: what is committed is served, what is damaged is found, nothing is made up (D4, D5, D7)."""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.spool import Batch, Recovery, Segment, read_segment, segments

NONCE = "0123456789abcdef"
MARK = b"#tocsin-" + NONCE.encode() + b" "


def batch(number: int, data: bytes) -> Batch:
    return Batch(
        "app", number * 1000, len(data), 17, data, "core", 5, "aa", "bb", number == 3, number or None
    )


def written(folder: Path, batches: list[Batch]) -> tuple[Path, list[int]]:
    """A segment with these batches, and where each one ends."""
    segment = Segment(folder, 1, NONCE)
    ends = []
    for one in batches:
        segment.append(one)
        ends.append(segment.bytes)
    segment.commit()
    segment.close()
    return segment.path, ends


def read(path: Path, data: bytes | None = None) -> tuple[list[Batch], Recovery]:
    if data is not None:
        path.write_bytes(data)
    recovery = Recovery()
    return list(read_segment(path, recovery)), recovery


BATCHES = [
    batch(0, b'{"a":1}\n'),
    batch(1, b"plain \xff\x00 text\r\n\n\xe2\x80\xa8\n" * 3),
    batch(2, b"#tocsin-feed [1, 2]\n#tocsin-\n"),
    batch(3, b"x" * 200 + b"\n"),
    batch(4, b"last\n"),
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path, _ends = written(tmp_path, BATCHES)
    assert read(path) == (BATCHES, Recovery())
    assert segments(tmp_path) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(st.lists(st.binary(max_size=80).map(lambda line: line + b"\n"), max_size=6))
def test_any_bytes_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    batches = [batch(number, line) for number, line in enumerate(lines)]
    path, _ends = written(tmp_path_factory.mktemp("spool"), batches)
    assert read(path) == (batches, Recovery())


def test_D4_a_tail_torn_at_every_byte_of_the_last_three_batches(tmp_path: Path) -> None:
    path, ends = written(tmp_path, BATCHES)
    data = path.read_bytes()
    for length in range(ends[1], len(data) + 1):
        found, recovery = read(path, data[:length])
        # A batch is committed when its trailer is whole; only the trailer's newline may be missing.
        whole = [number for number, end in enumerate(ends) if end - 1 <= length]
        assert found == [BATCHES[number] for number in whole]
        assert recovery == Recovery(truncated_bytes=max(0, length - ends[whole[-1]])), length


def test_D5_every_single_flipped_bit_is_found_and_costs_one_batch(tmp_path: Path) -> None:
    path, ends = written(tmp_path, BATCHES)
    data = path.read_bytes()
    bits = random.Random(5).sample(range(8 * len(data)), 700)
    newlines = [8 * (end - 1) + bit for end in ends for bit in range(8)]
    for bit in bits + newlines:
        rotten = bytearray(data)
        rotten[bit // 8] ^= 1 << bit % 8
        found, recovery = read(path, bytes(rotten))
        hit = next(number for number, end in enumerate(ends) if bit // 8 < end)
        others = BATCHES[:hit] + BATCHES[hit + 1 :]
        harmless = bit // 8 == ends[hit] - 1  # the newline after a trailer protects nothing
        assert found == (BATCHES if harmless else others), bit
        whole = ends[hit] - (ends[hit - 1] if hit else 0)
        lost = [0] if harmless else [whole, len(BATCHES[hit].data)]  # a good trailer is not kept
        assert recovery.quarantined_bytes + recovery.truncated_bytes in lost, bit
        assert sum(map(len, recovery.quarantined)) == recovery.quarantined_bytes


def test_D5_a_damaged_last_batch_is_quarantined_not_cut(tmp_path: Path) -> None:
    path, ends = written(tmp_path, BATCHES)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1  # in the last trailer, which was written to its end
    found, recovery = read(path, bytes(data))
    assert found == BATCHES[:-1]
    assert recovery == Recovery(0, len(data) - ends[-2], [bytes(data[ends[-2] :])])


def test_D5_two_damaged_neighbours_do_not_take_a_third_with_them(tmp_path: Path) -> None:
    path, ends = written(tmp_path, BATCHES)
    data = bytearray(path.read_bytes())
    data[ends[0] + 3] ^= 4
    data[ends[2] - 9] ^= 4
    found, recovery = read(path, bytes(data))
    assert found == [BATCHES[0], BATCHES[3], BATCHES[4]]
    first = ends[0] + len(BATCHES[1].data)
    assert recovery.quarantined == [data[ends[0] : first], data[ends[1] : ends[2]]]
    assert recovery.truncated_bytes == 0


def trailer_text(body: str, crc32: int | None = None) -> bytes:
    return json.dumps([zlib.crc32(body.encode()) if crc32 is None else crc32, body]).encode()


HOSTILE = [
    MARK + b"\n",
    MARK,
    b"text " + MARK + b"\n",
    MARK + b"[1, 2\n",
    MARK + b"null\n",
    MARK + b"[7]\n",
    MARK + b"[1, null]\n",
    MARK + b"\xff\xfe\n",
    MARK + b"[" * 100_000 + b"\n",
    MARK + trailer_text('{"bytes":3,"crc32":1}', crc32=99) + b"\n",
    MARK.replace(b"f ", b"e ") + trailer_text('{"bytes":3,"crc32":1}') + b"\n",
    b"#tocsin- " + trailer_text('{"bytes":3,"crc32":1}') + b"\n",
    MARK * 3 + b"\n",
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_D5_a_line_that_imitates_a_trailer_splits_and_loses_nothing(tmp_path: Path, line: bytes) -> None:
    batches = [batch(0, b"a\n" + line + b"\nb\n"), batch(1, line + b"\n"), batch(2, b"c\n" + line + b"\n")]
    path, _ends = written(tmp_path, batches)
    assert read(path) == (batches, Recovery())


def test_D4_an_imitated_trailer_in_a_torn_tail_serves_nothing(tmp_path: Path) -> None:
    hostile = b"#tocsin-" + b"0" * 16 + b" " + trailer_text('{"bytes":2,"crc32":1}') + b"\n"
    path, ends = written(tmp_path, [batch(0, b"a\n"), batch(1, hostile * 3)])
    data = path.read_bytes()
    found, recovery = read(path, data[: ends[0] + len(hostile) * 3])
    assert [one.data for one in found] == [b"a\n"]
    assert recovery == Recovery(truncated_bytes=len(hostile) * 3)


def test_an_empty_segment_holds_nothing(tmp_path: Path) -> None:
    path, _ends = written(tmp_path, [])
    assert read(path) == ([], Recovery())


@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_D7_after_a_failed_call_a_segment_never_commits_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    segment = Segment(tmp_path, 1)
    segment.append(BATCHES[0])

    def fail(*_arguments: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="Input/output error"):
            segment.append(BATCHES[1]) if call == "write" else segment.commit()
    with pytest.raises(OSError, match="open a new one"):
        segment.commit()
    with pytest.raises(OSError, match="open a new one"):
        segment.append(BATCHES[1])
    segment.close()
    assert read(segment.path)[0] == BATCHES[:1]


def test_D4_a_write_that_the_system_cuts_short_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data)[:7]))
    path, _ends = written(tmp_path, BATCHES)
    assert read(path) == (BATCHES, Recovery())
