"""Cutting bytes into whole lines: nothing is lost, split or moved, and memory stays bounded (rows T8, T9)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server import chunks
from tocsin_server.chunks import Chunk, cut

PIECES = [
    b"a",
    b"\n",
    b"\n",
    b"\r\n",
    "é".encode(),
    "\u2028".encode(),
    "🔔".encode(),
    b"\x00",
    b"{}",
    b"\xff",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=8)


def blocks_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in blocks, cut at any byte; some may be empty."""
    borders = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


def tiles(found: list[Chunk], data: bytes, position: int) -> bool:
    """Whether the chunks lie side by side over the data, from the position on."""
    for chunk in found:
        if chunk.position != position or chunk.length <= 0:
            return False
        position += chunk.length
    return sum(chunk.length for chunk in found) == len(data)


@given(TEXTS, CUTS, st.integers(0, 1 << 40))
def test_T8_whole_lines_wherever_the_blocks_are_cut(data: bytes, cuts: list[int], position: int) -> None:
    found = list(cut(blocks_of(data, cuts), position))
    assert b"".join(chunk.data for chunk in found) == data
    assert tiles(found, data, position)
    assert all(len(chunk.data) == chunk.length for chunk in found)
    whole, tail = found, b""
    if data and not data.endswith(b"\n"):
        *whole, last = found
        tail = last.data
        assert last.is_tail
    assert tail == data.rpartition(b"\n")[2]
    assert all(chunk.data.endswith(b"\n") and not chunk.is_tail for chunk in whole)


def test_no_bytes_are_no_chunk() -> None:
    assert list(cut([], 0)) == list(cut([b"", b""], 0)) == []


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), CUTS, st.booleans())
def test_T9_a_huge_line_is_bounded_and_the_next_one_is_whole(
    lengths: list[int], cuts: list[int], ends: bool
) -> None:
    data = b"\n".join(b"%c" % (97 + n) * length for n, length in enumerate(lengths)) + b"\n" * ends
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "KEPT_BYTES", 10)
        found = list(cut(blocks_of(data, cuts), 7))
    assert tiles(found, data, 7)
    for line, given_line in zip(
        b"".join(chunk.data for chunk in found).split(b"\n"), data.split(b"\n"), strict=True
    ):
        assert line == given_line or (line == given_line[:10] and len(given_line) > 10)


def test_T9_a_line_of_64_MiB_in_small_blocks_costs_one_kept_beginning() -> None:
    block = b"x" * (1 << 20)
    found = list(cut([b"before\n", *[block] * 64, b"yy\nafter\n", b"tail"], 0))
    sizes = [(chunk.position, chunk.length, len(chunk.data)) for chunk in found]
    huge = (64 << 20) + 3
    assert sizes == [
        (0, 7, 7),
        (7, huge, chunks.KEPT_BYTES + 1),
        (7 + huge, 6, 6),
        (13 + huge, 4, 4),
    ]
    assert [chunk.data for chunk in found[2:]] == [b"after\n", b"tail"]
    assert [chunk.is_tail for chunk in found] == [False, False, False, True]


def test_T9_a_huge_line_at_the_end_of_the_file_is_a_tail_of_its_full_length() -> None:
    block = b"x" * (1 << 20)
    (found,) = cut([block] * 3, 0)
    assert (found.length, len(found.data), found.is_tail) == (3 << 20, chunks.KEPT_BYTES, True)
