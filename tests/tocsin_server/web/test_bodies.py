"""Bodies of lines: formats, encodings, and bombs (row I1)."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.web.bodies import MAX_INFLATED_BYTES, MAX_SENT_BYTES, BodyError, inflate, lines, read

ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
    "": bytes,
}


@pytest.mark.parametrize("encoding", ENCODERS)
@given(st.binary(max_size=4000))
def test_every_encoding_gives_the_bytes_back(encoding: str, body: bytes) -> None:
    assert inflate(ENCODERS[encoding](body), encoding) == body


def test_members_and_frames_may_follow_each_other() -> None:
    for name in ("gzip", "zstd"):
        assert inflate(ENCODERS[name](b"a\n") + ENCODERS[name](b"b\n"), name) == b"a\nb\n"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_I1_a_bomb_is_refused(encoding: str) -> None:
    bomb = ENCODERS[encoding](bytes(MAX_INFLATED_BYTES + 1))
    assert len(bomb) < MAX_SENT_BYTES
    with pytest.raises(BodyError) as error:
        inflate(bomb, encoding)
    assert error.value.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_I1_a_cut_or_broken_body_is_refused(encoding: str) -> None:
    whole = ENCODERS[encoding](json.dumps(list(range(5000))).encode())
    for body in (whole[: len(whole) // 2], b"nothing of the kind"):
        with pytest.raises(BodyError) as error:
            inflate(body, encoding)
        assert error.value.status == 400


def test_I1_nested_and_unknown_encodings_are_refused() -> None:
    for encoding in ("gzip, gzip", "br", "x" * 1000):
        with pytest.raises(BodyError) as error:
            inflate(b"", encoding)
        assert error.value.status == 415
        assert len(error.value.message) < 200


def test_a_body_that_is_too_long_is_not_read_to_its_end() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1 << 20)

    with pytest.raises(BodyError) as error:
        asyncio.run(read(endless()))
    assert error.value.status == 413
    assert taken == 11


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}\n{"b": 2}\n', b'{"a": 1}\n{"b": 2}\n'),
        (b'[{"a": 1}, {"b": 2}]', b'{"a":1}\n{"b":2}\n'),
        (b'\xef\xbb\xbf{"a": 1}', b'{"a": 1}'),
        (b'{\n  "a": 1\n}\n', b'{"a":1}\n'),
        (b'[{"n": 18446744073709551616}]', b'{"n":18446744073709551616}\n'),
        (b'[{"s": "\\ud800"}]', b'{"s":"\\ud800"}\n'),
        (b'{"broken": \n{"a": 1}\n', b'{"broken": \n{"a": 1}\n'),
        (b"plain text\n", b"plain text\n"),
        (b"", b""),
        (b"[]", b""),
        (b"[12]", b"12\n"),
    ],
)
def test_a_body_becomes_lines(body: bytes, expected: bytes) -> None:
    assert lines(body) == expected


@pytest.mark.parametrize("body", [b"[{", b"[" * 100_000, b'[{"a":1},]'])
def test_an_array_that_is_none_is_refused_whole(body: bytes) -> None:
    with pytest.raises(BodyError) as error:
        lines(body)
    assert error.value.status == 400
