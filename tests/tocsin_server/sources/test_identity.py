"""Bytes that are known: by length and SHA-256, the longest of those that the bytes begin with."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.sources.identity import Fingerprint, longest_known
from tocsin_server.store.manifest import HEAD_BYTES, Content

BLOCKS = st.lists(st.sampled_from([b"", b"a", b"b", b"ab", b"ba" * 3]), max_size=8)


def content(number: int, data: bytes) -> Content:
    return Content(number, "app", 0, len(data), b"", hashlib.sha256(data).digest(), 0)


def known(*parts: bytes) -> list[Content]:
    ordered = sorted(parts, key=len)
    return [content(number, data) for number, data in enumerate(ordered)]


@given(BLOCKS)
def test_a_fingerprint_is_of_the_bytes_not_of_their_blocks(blocks: list[bytes]) -> None:
    fingerprint = Fingerprint()
    for block in blocks:
        fingerprint.update(block)
    data = b"".join(blocks)
    assert fingerprint.length == len(data)
    assert fingerprint.sha256 == hashlib.sha256(data).digest()
    assert fingerprint.head == hashlib.sha256(data[:HEAD_BYTES]).digest()


def test_the_head_ends_where_it_should_also_inside_a_block() -> None:
    fingerprint = Fingerprint()
    for block in (b"x" * (HEAD_BYTES - 1), b"yz", b"later"):
        fingerprint.update(block)
    assert fingerprint.head == hashlib.sha256(b"x" * (HEAD_BYTES - 1) + b"y").digest()


@given(BLOCKS, st.lists(st.sampled_from([b"a", b"b", b"ab", b"aba", b"abab", b"babab"]), max_size=6))
def test_the_longest_beginning_is_found(blocks: list[bytes], parts: list[bytes]) -> None:
    data = b"".join(blocks)
    found = longest_known(blocks, known(*parts))
    beginnings = [part for part in parts if data.startswith(part)]
    if beginnings:
        assert found is not None
        assert found.length == max(map(len, beginnings))
    else:
        assert found is None


def test_no_more_is_read_than_the_longest_known() -> None:
    blocks = iter([b"abc", b"never read"])
    found = longest_known(blocks, known(b"abc", b"ab"))
    assert found is not None
    assert found.length == 3
    assert list(blocks) == [b"never read"]
