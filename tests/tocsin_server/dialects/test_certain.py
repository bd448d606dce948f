"""What is taken without a closer look is what the reference takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.dialects import Context, Parsed, is_certain, parse_line

CONTEXT = Context(received_at=0, pseudonym=lambda _tenant, raw: raw)
DATA = Path(__file__).parents[2] / "data"
SAMPLES = sorted(path for path in DATA.rglob("*") if path.suffix in (".log", ".jsonl"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=40,
)
KEYS = st.sampled_from(
    [
        "metric",
        "tags",
        "timestamp",
        "service",
        "message",
        "request_id",
        "method",
        "status",
        "log",
        "stream",
        "MESSAGE",
    ]
)


def holds(line: bytes) -> bool:
    return not is_certain(line) or isinstance(parse_line(line, CONTEXT), Parsed)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_on_every_sample(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    assert [line for line in lines if not holds(line)] == []


def test_recorded_rails_lines_are_mostly_certain() -> None:
    lines = [line for line in (DATA / "rails" / "web.log").read_bytes().split(b"\n") if line[:1] == b"{"]
    assert sum(map(is_certain, lines)) > 0.95 * len(lines)


@given(st.dictionaries(KEYS | st.text(), VALUES, max_size=8))
def test_on_made_up_objects(fields: dict[str, object]) -> None:
    assert holds(json.dumps(fields).encode("utf-8", "surrogatepass"))
    assert holds(json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(st.binary() | st.binary().map(lambda tail: b'{"timestamp":1,"service":"x","a":' + tail))
def test_on_bytes(line: bytes) -> None:
    assert holds(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"metric":"x","a":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"log":"{oops","stream":"stdout","timestamp":"x","service":"y"}',
        b'{"log":"{oops","stream":"stdout"}',
        b'{"metric":"x","n":' + b"9" * 1001 + b"}",
        b'{"metric":"x","n":1e999}',
        b'{"metric":"x","s":"\\u0000"}',
        b'{"metric":"x","s":"\x00"}',
        b"\xef\xbb\xbf" + b'{"metric":"x"}',
        b'{"metric":"x"}\r',
        b'{"metric":"x"} trailing',
        b'{"metric":"\\ud800"}',
        b'{"metric":null}',
    ],
)
def test_on_hostile_lines(line: bytes) -> None:
    assert holds(line)
